//! Compressed text in safetensors: each different page once, in bf16 or in blocks of 8 bits.
//!
//! A page is the tensor `page.DIGEST`, `[tokens, hidden]` in bf16, or `[tokens, hidden]` in signed bytes with a scale for each
//! block of 32 in `page.DIGEST.scale`, `[tokens, blocks]` in bf16. What else belongs to the text is JSON in the file's metadata.

use super::{OpticalPage, OpticalText, PageDigest};
use burn::tensor::{Device, TensorData};
use deepseek_ocr_core::{Error, Mode, Result, VisionTokens};
use deepseek_ocr_preprocess::Missing;
use half::bf16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// The key of our JSON in the file's metadata.
const KEY: &str = "deepseek-ocr-optical-text";
const VERSION: u64 = 1;

/// Numbers that share a scale.
const BLOCK: usize = 32;

/// The largest level of 8 bits; -128 is not used, so that levels are symmetric.
const LEVELS: f32 = 127.0;

/// How vision tokens are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TokenFormat {
    /// 16 bits a number, rounded to 8 bits of mantissa.
    #[default]
    Bf16,
    /// 8.5 bits a number: levels of a scale that 32 of them share.
    Q8,
}

/// A tensor of a file: name, type, shape and bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

impl OpticalText {
    /// The text as a safetensors file in memory.
    ///
    /// # Errors
    /// [`Error::Execution`] if the device fails.
    pub fn to_bytes(&self, format: TokenFormat) -> Result<Vec<u8>> {
        let mut different = BTreeMap::new();
        for page in &self.pages {
            different.entry(page.digest).or_insert(&page.vision);
        }
        let mut tensors = Vec::new();
        for (digest, vision) in different {
            tensors.extend(store(&name(digest), vision, format)?);
        }
        let invalid = |source: safetensors::SafeTensorError| Error::Safetensors {
            path: PathBuf::from(KEY),
            reason: source.to_string(),
        };
        let mut views = Vec::with_capacity(tensors.len());
        for (name, dtype, shape, bytes) in &tensors {
            views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(invalid)?));
        }
        let metadata = HashMap::from([(KEY.to_owned(), self.metadata().to_string())]);
        safetensors::serialize(views, Some(metadata)).map_err(invalid)
    }

    /// Writes a file, whole or not at all: until it is complete it has another name.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Execution`] if the device fails.
    pub fn save(&self, path: impl AsRef<Path>, format: TokenFormat) -> Result<()> {
        write_whole(path.as_ref(), &self.to_bytes(format)?)
    }

    /// Reads what [`save`](Self::save) wrote, in another process or on another device.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Safetensors`] if it is no such file or damaged.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        read(&bytes, device).map_err(|reason| Error::Safetensors { path: path.to_owned(), reason })
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    /// [`Error::Safetensors`] if it is no such file or damaged.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        read(bytes, device).map_err(|reason| Error::Safetensors { path: PathBuf::from(KEY), reason })
    }

    fn metadata(&self) -> Value {
        let page = |page: &OpticalPage| {
            json!({
                "digest": page.digest.to_string(),
                "start": page.range.start,
                "end": page.range.end,
                "text_tokens": page.text_tokens,
                "size": page.vision.page_size().map(|(width, height)| [width, height]),
            })
        };
        let missing = |missing: &Missing| json!([missing.character.to_string(), missing.at]);
        json!({
            "version": VERSION,
            "mode": self.mode.to_string(),
            "text_tokens": self.text_tokens,
            "pages": self.pages.iter().map(page).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(missing).collect::<Vec<_>>(),
        })
    }
}

/// Writes a file, whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(Error::write(path))
}

fn name(digest: PageDigest) -> String {
    format!("page.{digest}")
}

fn store(name: &str, vision: &VisionTokens, format: TokenFormat) -> Result<Vec<Stored>> {
    let (tokens, width) = (vision.len(), vision.width());
    let data = vision.to_data()?;
    let numbers = data.as_slice::<f32>().map_err(|error| Error::Execution { source: format!("{error:?}").into() })?;
    let bytes = |scales: Vec<bf16>| scales.into_iter().flat_map(bf16::to_le_bytes).collect::<Vec<u8>>();
    if format == TokenFormat::Bf16 {
        let numbers = numbers.iter().copied().map(bf16::from_f32).collect();
        return Ok(vec![(name.to_owned(), Dtype::BF16, vec![tokens, width], bytes(numbers))]);
    }
    let (mut levels, mut scales) = (Vec::with_capacity(numbers.len()), Vec::new());
    for block in numbers.chunks_exact(width.max(1)).flat_map(|token| token.chunks(BLOCK)) {
        let largest = block.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
        let scale = bf16::from_f32(largest / LEVELS);
        // A block of zeros has the scale zero and any levels.
        let inverse = if scale > bf16::ZERO { scale.to_f32().recip() } else { 0.0 };
        levels.extend(block.iter().map(|number| (number * inverse).round().clamp(-LEVELS, LEVELS) as i8 as u8));
        scales.push(scale);
    }
    let blocks = width.div_ceil(BLOCK);
    Ok(vec![
        (name.to_owned(), Dtype::I8, vec![tokens, width], levels),
        (format!("{name}.scale"), Dtype::BF16, vec![tokens, blocks], bytes(scales)),
    ])
}

/// The tensors of a file, and the JSON that its metadata has under `key`; or what is wrong with it.
pub(crate) fn parts<'a>(bytes: &'a [u8], key: &str, version: u64) -> Result<(SafeTensors<'a>, Value), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(key));
    let text = text.ok_or_else(|| format!("it has no metadata {key}"))?;
    let json: Value = serde_json::from_str(text).map_err(|error| format!("metadata {key}: {error}"))?;
    if json["version"] != version {
        return Err(format!("version {} is not read, expected {version}", json["version"]));
    }
    Ok((file, json))
}

/// The text of a file, or what is wrong with it.
fn read(bytes: &[u8], device: &Device) -> Result<OpticalText, String> {
    let (file, json) = parts(bytes, KEY, VERSION)?;
    let mode = json["mode"].as_str().and_then(|mode| mode.parse::<Mode>().ok());
    let mut encoded: HashMap<String, VisionTokens> = HashMap::new();
    let mut pages = Vec::new();
    let mut end = 0;
    for page in json["pages"].as_array().ok_or("pages is missing")? {
        let digest = page["digest"].as_str().ok_or("a page has no digest")?;
        let vision = match encoded.get(digest) {
            Some(vision) => vision.clone(),
            None => vision(&file, digest, page, device)?,
        };
        encoded.insert(digest.to_owned(), vision.clone());
        let range = number(&page["start"], "start")?..number(&page["end"], "end")?;
        if range.start != end || range.end < end {
            return Err(format!("a page begins at byte {} behind byte {end} of the text", range.start));
        }
        end = range.end;
        pages.push(OpticalPage {
            vision,
            range,
            text_tokens: number(&page["text_tokens"], "text_tokens")?,
            digest: parse(digest)?,
        });
    }
    let missing = json["missing"].as_array().ok_or("missing is missing")?.iter().map(missing);
    Ok(OpticalText {
        pages,
        mode: mode.ok_or("mode is none that is known")?,
        text_tokens: number(&json["text_tokens"], "text_tokens")?,
        missing: missing.collect::<Option<_>>().ok_or("missing is no list of characters and places")?,
    })
}

pub(crate) fn number<T: TryFrom<u64>>(json: &Value, what: &str) -> Result<T, String> {
    let number = json.as_u64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("{what} is {json}, expected a number of {} bits at most", 8 * size_of::<T>()))
}

fn missing(json: &Value) -> Option<Missing> {
    let mut characters = json[0].as_str()?.chars();
    let character = characters.next().filter(|_| characters.clone().next().is_none())?;
    Some(Missing::new(character, usize::try_from(json[1].as_u64()?).ok()?))
}

fn parse(digest: &str) -> Result<PageDigest, String> {
    let digits = |at: usize| digest.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..digest.len().div_ceil(2)).map(digits).collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(PageDigest).ok_or_else(|| format!("{digest:?} is no digest"))
}

fn vision(file: &SafeTensors<'_>, digest: &str, page: &Value, device: &Device) -> Result<VisionTokens, String> {
    let name = format!("page.{digest}");
    let tensor = file.tensor(&name).map_err(|error| error.to_string())?;
    let &[tokens, width] = tensor.shape() else {
        return Err(format!("{name} has shape {:?}, expected [tokens, hidden]", tensor.shape()));
    };
    let wide = |bytes: &[u8]| {
        bytes.as_chunks::<2>().0.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect::<Vec<f32>>()
    };
    let numbers = match tensor.dtype() {
        Dtype::BF16 => wide(tensor.data()),
        Dtype::I8 => {
            let scales = file.tensor(&format!("{name}.scale")).map_err(|error| error.to_string())?;
            if scales.dtype() != Dtype::BF16 || scales.shape() != [tokens, width.div_ceil(BLOCK)] {
                return Err(format!("{name}.scale has {:?} of shape {:?}", scales.dtype(), scales.shape()));
            }
            let scales = wide(scales.data());
            let blocks = tensor.data().chunks_exact(width.max(1)).flat_map(|token| token.chunks(BLOCK));
            let scaled = |(block, scale): (&[u8], f32)| {
                block.iter().map(|&level| f32::from(level as i8) * scale).collect::<Vec<_>>()
            };
            blocks.zip(scales).flat_map(scaled).collect()
        }
        other => return Err(format!("{name} has data type {other:?}, expected BF16 or I8")),
    };
    if tokens == 0 || width == 0 || !numbers.iter().all(|number| number.is_finite()) {
        return Err(format!("{name} holds no tokens, or a number that is not finite"));
    }
    let data = TensorData::new(numbers, [tokens, width]);
    let vision = VisionTokens::from_data(data, device).map_err(|error| error.to_string())?;
    let side = |at: usize| page["size"][at].as_u64().and_then(|side| u32::try_from(side).ok());
    Ok(match (side(0), side(1)) {
        (Some(width), Some(height)) => vision.with_page_size(width, height),
        _ => vision,
    })
}
