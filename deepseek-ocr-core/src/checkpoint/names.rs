//! What other tools put around the names of tensors, and names that may be meant by one that is missing.

/// Parts of a name that wrappers of a module add: `torch.compile`, data parallelism, sharding and checkpointing.
const WRAPPERS: [&str; 4] = ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Begins all names but those of the head.
const MODEL: &str = "model.";
const HEAD: &str = "lm_head.";

/// A tensor that each model has, by which a prefix is found.
const ANCHOR: &str = "model.norm.weight";

/// Names that are shown at most where one is missing.
const SHOWN: usize = 3;

/// The released names of tensors whose names are these but for wrappers anywhere, for a prefix that all have, or for the lack of
/// `model.`; nothing if that does not explain all of them, or if there is nothing to explain.
pub(super) fn released<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Vec<String>> {
    let bare: Vec<String> = names.clone().map(without_wrappers).collect();
    let released = if bare.iter().any(|name| name == ANCHOR) { bare } else { with_prefix_of_anchor(&bare)? };
    let mut sorted: Vec<&String> = released.iter().collect();
    sorted.sort_unstable();
    let unique = sorted.windows(2).all(|pair| pair[0] != pair[1]);
    (unique && !names.eq(released.iter().map(String::as_str))).then_some(released)
}

/// Names among these that may be meant by one that is missing: those that end as it does and have all its parts in order, or of
/// which it has all. If no name is made as the missing one is, some of them, so that it shows how they are made.
pub(super) fn instead_of<'a>(missing: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let may_be = |name: &&str| contains_parts(name, missing) || contains_parts(missing, name);
    let mut related: Vec<&str> = names.clone().filter(|name| last(name) == last(missing)).filter(may_be).collect();
    if related.is_empty() {
        if names.clone().any(|name| parent(name) == parent(missing)) {
            return Vec::new();
        }
        related = names.collect();
    }
    related.sort_by_key(|name| (std::cmp::Reverse(common_end(name, missing)), name.len()));
    related.into_iter().take(SHOWN).map(str::to_owned).collect()
}

fn without_wrappers(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    parts.join(".")
}

fn with_prefix_of_anchor(names: &[String]) -> Option<Vec<String>> {
    let anchors = |anchor: &'static str| names.iter().filter_map(move |name| name.strip_suffix(anchor));
    let stripped = |prefix: &str| names.iter().map(|name| name.strip_prefix(prefix)).collect::<Option<Vec<_>>>();
    let whole = anchors(ANCHOR)
        .filter_map(stripped)
        .find(|rest| rest.iter().all(|name| name.starts_with(MODEL) || name.starts_with(HEAD)));
    if let Some(rest) = whole {
        return Some(rest.into_iter().map(str::to_owned).collect());
    }
    let bare = anchors(ANCHOR.strip_prefix(MODEL).unwrap_or(ANCHOR))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
    let rest = bare.filter_map(stripped).find(|rest| !rest.iter().any(|name| name.starts_with(MODEL)))?;
    let named = |name: &str| if name.starts_with(HEAD) { name.to_owned() } else { format!("{MODEL}{name}") };
    Some(rest.into_iter().map(named).collect())
}

fn last(name: &str) -> Option<&str> {
    name.rsplit('.').next()
}

/// The module that a tensor's module is a part of.
fn parent(name: &str) -> Option<&str> {
    name.rsplitn(3, '.').nth(2).or_else(|| name.split('.').next())
}

/// Whether the parts of `inner` are among those of `outer`, in their order.
fn contains_parts(outer: &str, inner: &str) -> bool {
    let mut parts = outer.split('.');
    inner.split('.').all(|part| parts.any(|other| other == part))
}

fn common_end(a: &str, b: &str) -> usize {
    a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] =
        ["lm_head.weight", "model.layers.0.input_layernorm.weight", "model.norm.weight", "model.sam_model.pos_embed"];

    fn changed(change: impl Fn(&str) -> String) -> Option<Vec<String>> {
        let names: Vec<String> = NAMES.into_iter().map(change).collect();
        released(names.iter().map(String::as_str))
    }

    #[test]
    fn one_prefix_of_any_kind_is_taken_off() {
        for prefix in
            ["_orig_mod.", "module.", "language_model.", "base_model.model.", "module._orig_mod.", "model.", "a_"]
        {
            assert_eq!(changed(|name| format!("{prefix}{name}")).expect(prefix), NAMES);
        }
    }

    #[test]
    fn wrappers_are_taken_out_anywhere() {
        let wrapped =
            |name: &str| name.replace("layers.0.", "layers.0._orig_mod.").replace("sam_model.", "sam_model.module.");
        assert_eq!(changed(wrapped).expect("wrappers"), NAMES);
    }

    #[test]
    fn model_is_put_in_front_where_it_is_missing() {
        assert_eq!(changed(|name| name.strip_prefix("model.").unwrap_or(name).to_owned()).expect("no prefix"), NAMES);
        let prefixed = |name: &str| format!("module.base.{}", name.strip_prefix("model.").unwrap_or(name));
        assert_eq!(changed(prefixed).expect("a prefix, and no model."), NAMES);
    }

    #[test]
    fn names_that_no_one_prefix_explains_stay() {
        assert_eq!(changed(str::to_owned), None);
        assert_eq!(
            changed(|name| name.replace("model.layers", "ema.model.layers").replace("model.norm", "other.model.norm")),
            None
        );
        assert_eq!(changed(|name| name.replace("model.", "vision.")), None);
        // A copy of averaged weights beside the weights: neither is the other.
        assert_eq!(released(["model.norm.weight", "module.model.norm.weight"].into_iter()), None);
        assert_eq!(released(["head.weight", "head.bias"].into_iter()), None);
    }

    #[test]
    fn the_names_that_may_be_meant_come_first() {
        let names = || {
            ["a.model.norm.weight", "blk.0.attn_q.weight", "model.language_model.norm.weight", "output.weight"]
                .into_iter()
        };
        assert_eq!(
            instead_of("model.norm.weight", names()),
            ["a.model.norm.weight", "model.language_model.norm.weight"]
        );
        assert_eq!(instead_of("model.layers.0.mlp.gate.weight", names())[0], "output.weight");
        assert_eq!(instead_of("model.image_newline", NAMES.into_iter()), Vec::<String>::new());
        assert_eq!(instead_of("model.norm.bias", NAMES.into_iter()), Vec::<String>::new());
        assert_eq!(instead_of("lm_head.weight", ["lm_head.weight.scale"].into_iter()), Vec::<String>::new());
    }
}
