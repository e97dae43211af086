//! Where in a module a parameter stands, and what it is called in a checkpoint.

/// Burn's norms call scale and shift by their Greek letters, checkpoints by what they are.
const NORMS: [&str; 2] = ["Struct:LayerNorm", "Struct:RmsNorm"];

/// Matrices whose parameters are found, or made, together.
const BLOCKS: &str = "Struct:BlockWeight";

/// How the field path of a module becomes a tensor name: the first prefix that fits is replaced.
///
/// ```
/// use deepseek_ocr_core::Names;
///
/// const NAMES: Names = Names(&[("compressor.net_", "model.sam_model.net_"), ("", "model.")]);
/// assert_eq!(NAMES.tensor_name("compressor.net_2.weight"), "model.sam_model.net_2.weight");
/// assert_eq!(NAMES.tensor_name("norm.weight"), "model.norm.weight");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Names(pub &'static [(&'static str, &'static str)]);

/// A place in a module while it is walked through.
#[derive(Debug)]
pub(super) struct Place<'a> {
    names: &'a Names,
    path: Vec<String>,
    container: Vec<String>,
}

impl Names {
    /// The name in the checkpoint of the parameter at `path`.
    pub fn tensor_name(&self, path: &str) -> String {
        let fit = self.0.iter().find_map(|(from, to)| Some((to, path.strip_prefix(from)?)));
        fit.map_or_else(|| path.to_owned(), |(to, rest)| format!("{to}{rest}"))
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        Self { names, path: Vec::new(), container: Vec::new() }
    }

    pub(super) fn enter(&mut self, name: &str, container: &str) {
        // An enum's variant is a choice of representation, not a level of the checkpoint.
        if !container.starts_with("Enum:") {
            self.path.push(name.to_owned());
        }
        self.container.push(container.to_owned());
    }

    pub(super) fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
        self.container.pop();
    }

    /// Whether the parameter is of one of these modules.
    pub(super) fn is_in(&self, containers: &[&str]) -> bool {
        self.container.last().is_some_and(|container| containers.contains(&container.as_str()))
    }

    /// The name of the parameter's tensor.
    pub(super) fn tensor_name(&self) -> String {
        let mut path = self.path.join(".");
        if self.is_in(&NORMS) {
            for (ours, theirs) in [("gamma", "weight"), ("beta", "bias")] {
                if let Some(stem) = path.strip_suffix(ours) {
                    path = format!("{stem}{theirs}");
                }
            }
        }
        self.names.tensor_name(&path)
    }

    /// The name of the matrix in blocks that the parameter is a part of, if it is one.
    pub(super) fn matrix_name(&self) -> Option<String> {
        let part = self.is_in(&[BLOCKS]).then(|| self.tensor_name())?;
        Some(part.rsplit_once('.').map_or(part.as_str(), |(matrix, _)| matrix).to_owned())
    }
}
