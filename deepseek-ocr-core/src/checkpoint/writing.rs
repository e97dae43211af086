//! Converting a checkpoint: the matrices of a module in blocks, all else as it is.
//!
//! One tensor at a time is in memory. In a file, levels and scales come first, each set of levels at a cache line.

use super::{Checkpoint, Entry, Names, Shard, loading::pack_stored, place::Place};
use crate::{Error, Result, quant::BlockFormat};
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Int, Tensor},
};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

/// The data of a file begin at a multiple of this: a cache line, so that vectors of levels never straddle two.
const ALIGNMENT: usize = 64;

/// A matrix that is to be in blocks.
type Plan = BTreeMap<String, (BlockFormat, [usize; 2])>;

impl Checkpoint {
    /// Writes a copy into an existing `folder`, shard by shard, in which the matrices that `module` has in
    /// [blocks](crate::quant) are so. The module's weights need not be there.
    ///
    /// # Errors
    /// Those of [`Loading::fill`](crate::Loading::fill) for these matrices; [`Error::Write`], also if a file is there already.
    pub fn convert<M: Module>(&self, module: &M, names: &Names, folder: impl AsRef<Path>) -> Result<()> {
        let mut planner = Planner { place: Place::new(names), plan: Plan::new() };
        module.visit(&mut planner);
        let mut plan = planner.plan;
        plan.retain(|name, (format, _)| !self.tensors.contains_key(&format.levels_name(name)));
        // Everything that can be wrong but the numbers shows before a file is written.
        plan.iter().try_for_each(|(name, &(format, size))| self.floats(name, format, size).map(drop))?;
        let (folder, mut map, mut total) = (folder.as_ref(), Map::new(), 0);
        for (index, shard) in self.shards.iter().enumerate() {
            let file = shard.path.file_name().unwrap_or_default();
            let parts = self.parts(index, &plan);
            let bytes: usize = parts.iter().map(|part| part.bytes).sum();
            self.write(&parts, &folder.join(file))?;
            tracing::info!(file = %file.display(), bytes, "converted");
            map.extend(parts.into_iter().map(|part| (part.name, Value::from(file.to_string_lossy()))));
            total += bytes;
        }
        if self.shards.len() > 1 {
            let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
            let path = folder.join(super::files::INDEX);
            create(&path)?.write_all(index.to_string().as_bytes()).map_err(Error::write(path))?;
        }
        Ok(())
    }

    /// What becomes of a shard's tensors, in the order of the new file.
    fn parts(&self, shard: usize, plan: &Plan) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest: Vec<(&String, &Entry)> = Vec::new();
        for (name, entry) in self.tensors.iter().filter(|(_, entry)| entry.shard == shard) {
            match plan.get(name) {
                Some(&(format, size)) => parts.extend(Part::blocks(name, format, size)),
                None => rest.push((name, entry)),
            }
        }
        // Levels of an earlier conversion stay ahead; of the others the wider go first, so that each is aligned to its type.
        rest.sort_by_key(|(name, entry)| {
            (BlockFormat::of_name(name).is_none(), std::cmp::Reverse(entry.dtype.bitsize()))
        });
        parts.extend(rest.into_iter().map(|(name, entry)| Part::copy(name, entry)));
        parts
    }

    fn write(&self, parts: &[Part], path: &Path) -> Result<()> {
        let mut file = BufWriter::new(create(path)?);
        let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::write(path));
        let header = header(parts);
        put(&(header.len() as u64).to_le_bytes())?;
        put(header.as_bytes())?;
        let mut scales = None;
        for part in parts {
            match part.source {
                Source::Copy => {
                    let Entry { shard, range, .. } = &self.tensors[&part.name];
                    let Shard { bytes, .. } = &self.shards[*shard];
                    put(&bytes[range.clone()])?;
                    self.release(&part.name);
                }
                Source::Levels(ref matrix, format, size) => {
                    let [levels, of_levels] = pack_stored(self, matrix, format, size)?;
                    put(levels.bytes())?;
                    scales = Some(of_levels);
                }
                Source::Scales => put(scales.take().expect("a matrix' levels come before its scales").bytes())?,
            }
        }
        file.flush().map_err(Error::write(path))
    }
}

/// A tensor of the new file.
struct Part {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: usize,
    source: Source,
}

enum Source {
    /// The tensor of the same name.
    Copy,
    /// A matrix.
    Levels(String, BlockFormat, [usize; 2]),
    /// The matrix whose levels come before.
    Scales,
}

impl Part {
    fn copy(name: &str, entry: &Entry) -> Self {
        let Entry { dtype, shape, range, .. } = entry.clone();
        Self { name: name.to_owned(), dtype, shape, bytes: range.len(), source: Source::Copy }
    }

    fn blocks(name: &str, format: BlockFormat, size: [usize; 2]) -> [Self; 2] {
        let (dtype, shape) = format.stored_levels(size);
        let levels = Source::Levels(name.to_owned(), format, size);
        let scales = BlockFormat::scales_shape(size).to_vec();
        let [of_levels, of_scales] = format.names(name);
        [Self::new(of_levels, dtype, shape.to_vec(), levels), Self::new(of_scales, Dtype::F16, scales, Source::Scales)]
    }

    fn new(name: String, dtype: Dtype, shape: Vec<usize>, source: Source) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        Self { name, dtype, shape, bytes, source }
    }
}

fn header(parts: &[Part]) -> String {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut from = 0;
    for Part { name, dtype, shape, bytes, .. } in parts {
        let to = from + bytes;
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] });
        header.insert(name.clone(), info);
        from = to;
    }
    let mut text = Value::from(header).to_string();
    let end = size_of::<u64>() + text.len();
    text.extend(std::iter::repeat_n(' ', end.next_multiple_of(ALIGNMENT) - end));
    text
}

fn create(path: &Path) -> Result<File> {
    File::create_new(path).map_err(Error::write(path))
}

/// Finds the matrices in blocks.
struct Planner<'a> {
    place: Place<'a>,
    plan: Plan,
}

impl ModuleVisitor for Planner<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.place.exit(container_type);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        if let (Some(name), Some(plan)) = (self.place.matrix_name(), BlockFormat::of_levels(&param.lazy_shape())) {
            self.plan.insert(name, plan);
        }
    }
}
