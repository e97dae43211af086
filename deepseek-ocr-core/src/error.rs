//! The one error type of the workspace, grouped by who can mend it.
//!
//! Messages are lowercase, without a full stop, and never repeat what [`source`](std::error::Error::source) says.

use crate::Weights;
use std::path::PathBuf;

/// A boxed foreign error, kept as the `source` of ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, grouped by who can mend it.
///
/// ```
/// use deepseek_ocr_core::Error;
///
/// let error = Error::ImageEmpty { width: 0, height: 7 };
/// assert_eq!(error.to_string(), "the image has no pixels (0 x 7)");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // -- Who sends the page or the request --
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are in no image format that is read here.
    #[error("not an image that can be read: {found}; read are PNG, JPEG, WebP, TIFF, BMP, GIF, ICO and PNM")]
    NotAnImage {
        /// What the data is as far as its first bytes tell, and what to do about it.
        found: String,
    },
    /// The image uses a feature of its format that is not read.
    #[error("the {format} image uses {feature}, which is not supported")]
    ImageUnsupported {
        /// The format that the data claims.
        format: &'static str,
        /// The feature, by its name in the format's specification.
        feature: String,
    },
    /// The bytes claim an image format and break its rules.
    #[error("the {format} image is damaged or uses a feature that is not supported")]
    ImageDecode {
        /// The format that the data claims.
        format: &'static str,
        /// What the decoder said.
        source: BoxError,
    },
    /// The image ends before its last row.
    #[error("the {format} image is cut off: {reason}")]
    ImageTruncated {
        /// The format that the data claims.
        format: &'static str,
        /// How it was noticed.
        reason: String,
    },
    /// The image has a side of zero.
    #[error("the image has no pixels ({width} x {height})")]
    ImageEmpty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The image is larger than the limits allow; nothing was decoded.
    #[error("the image is too large: {found} is over the limit of {limit}")]
    ImageTooLarge {
        /// What the header claims, with its unit.
        found: String,
        /// The limit that it breaks, with its unit.
        limit: String,
    },
    /// A request asks for something that cannot be.
    #[error("invalid request: {field} is {found}, expected {expected}")]
    InvalidRequest {
        /// The setting's name.
        field: &'static str,
        /// What it was.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A style in which no text can be set.
    #[error("invalid style: {field} is {found}, expected {expected}")]
    InvalidStyle {
        /// The setting's name.
        field: &'static str,
        /// What it was.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The bytes are no font with which text can be set.
    #[error("the font cannot be used: {reason}")]
    InvalidFont {
        /// What is wrong.
        reason: &'static str,
    },
    /// The prompt leaves no room for an answer.
    #[error("the prompt of {tokens} tokens does not fit the context of {context} tokens with room for an answer")]
    PromptTooLong {
        /// Tokens of the prompt, vision tokens included.
        tokens: usize,
        /// The model's context in tokens.
        context: usize,
    },
    /// Vision tokens of one model were given to another.
    #[error("vision tokens have width {found}, this model expects {expected}")]
    VisionTokensWidth {
        /// Width of the tokens.
        found: usize,
        /// Hidden size of the model.
        expected: usize,
    },

    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Weights of one format were asked for in another, which would lose precision twice.
    #[error("tensor {name} is stored as {found}, it cannot become {asked}")]
    WeightFormat {
        /// The tensor's name, without format.
        name: String,
        /// The format in the checkpoint.
        found: Weights,
        /// The format that was asked for.
        asked: Weights,
    },

    // -- Who made the model folder --
    /// A field of a configuration file describes a model that is not supported.
    #[error("{file}: {field} is {found}, expected {expected}")]
    Config {
        /// The file's name.
        file: &'static str,
        /// Path of the field, dotted.
        field: String,
        /// What the file says.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// A folder holds something else than a model of this kind.
    #[error("{} is not a model folder that can be loaded: {reason}", path.display())]
    ModelFolder {
        /// The folder.
        path: PathBuf,
        /// What it holds, and what to do about it.
        reason: String,
    },
    /// A JSON file cannot be parsed, or lacks what it is there for.
    #[error("{} is not valid JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, or what the file is instead.
        reason: String,
    },
    /// A safetensors file breaks the format.
    #[error("{} is not a valid safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that the model needs is not in the checkpoint.
    #[error("the checkpoint lacks tensor {name} (expected shape {expected:?}){}", names_instead(found))]
    TensorMissing {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// Names in the checkpoint that may be meant, closest first; empty if the checkpoint's other names are as expected.
        found: Vec<String>,
    },
    /// The checkpoint holds tensors that no part of the model takes.
    #[error("the checkpoint holds {count} unexpected tensors, the first is {first}")]
    TensorUnexpected {
        /// The first one by name.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// A tensor has another shape than the configuration implies.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor has a data type that is not read.
    #[error("tensor {name} has data type {found}, expected {expected}")]
    TensorDtype {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The type in the file.
        found: String,
        /// The types that are read.
        expected: &'static str,
    },
    /// A tensor that steers control flow holds NaN or infinity.
    #[error("tensor {name} holds a value that is not finite at index {index}")]
    TensorNotFinite {
        /// The tensor's name in the checkpoint.
        name: String,
        /// Flat index of the first such value.
        index: usize,
    },
    /// The tokenizer file cannot be used.
    #[error("the tokenizer cannot be used: {reason}")]
    Tokenizer {
        /// What is wrong.
        reason: String,
        /// What the tokenizer library said, if it was asked.
        source: Option<BoxError>,
    },

    // -- Who runs the program --
    /// A backend is not compiled in, or its device is not there.
    #[error("device {device} is not available: {remedy}")]
    DeviceUnavailable {
        /// The device asked for.
        device: String,
        /// Which feature or driver to add.
        remedy: String,
    },
    /// The system does not give a model its threads.
    #[error("cannot start {count} threads")]
    Threads {
        /// How many were asked for.
        count: usize,
        /// What the thread pool said.
        source: BoxError,
    },
    /// The model could not be downloaded or found in the cache.
    #[error("cannot get {file} of {repo} from the Hugging Face hub")]
    Hub {
        /// The repository.
        repo: String,
        /// The file within it.
        file: String,
        /// What the client said.
        source: BoxError,
    },
    /// The engine's queue is full, and it was asked to refuse what does not fit.
    #[error("the queue is full: {limit} requests wait already")]
    QueueFull {
        /// Requests that may wait.
        limit: usize,
    },
    /// A request may need more cache than the engine's budget, so that it can never start.
    #[error("the request may need {needed} bytes of cache, the budget is {budget}")]
    CacheBudget {
        /// Bytes that it needs if it writes as much as it may.
        needed: u64,
        /// Bytes that all requests may need together.
        budget: u64,
    },
    /// The engine was stopped before the request ended, or takes no more requests.
    #[error("the engine has stopped")]
    EngineStopped,
    /// The engine's thread panicked while it worked on the request.
    #[error("the engine panicked: {reason}")]
    EnginePanicked {
        /// What the panic said.
        reason: String,
    },
    /// The device failed while computing.
    #[error("the device failed while computing")]
    Execution {
        /// What the backend said.
        source: BoxError,
    },
    /// The model computed NaN or infinity where a choice depends on it.
    #[error("the model computed a value that is not finite in {place}")]
    NotFinite {
        /// Which stage.
        place: &'static str,
    },
}

/// What an [`Error`] is about: see [`Error::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file cannot be read or written.
    File,
    /// The page is no image, is damaged, or is over the limits: whoever sent it must send another.
    Image,
    /// The request, its prompt or its style asks for something that cannot be.
    Request,
    /// The model folder is incomplete, damaged, or describes a model that is not supported.
    Model,
    /// The device is not there, has no threads left, or failed while computing.
    Device,
    /// The Hugging Face hub cannot be reached, or refuses.
    Hub,
    /// The engine's queue is full: the same request may succeed later.
    Busy,
    /// The engine has stopped.
    Engine,
}

impl Error {
    /// What the error is about, so that a service maps errors to responses in one place.
    ///
    /// ```
    /// use deepseek_ocr_core::{Error, ErrorKind};
    ///
    /// let status = |error: &Error| match error.kind() {
    ///     ErrorKind::Image | ErrorKind::Request => 422,
    ///     ErrorKind::Busy => 503,
    ///     _ => 500,
    /// };
    /// assert_eq!(status(&Error::ImageEmpty { width: 0, height: 7 }), 422);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Write { .. } => ErrorKind::File,
            Self::NotAnImage { .. }
            | Self::ImageUnsupported { .. }
            | Self::ImageDecode { .. }
            | Self::ImageTruncated { .. }
            | Self::ImageEmpty { .. }
            | Self::ImageTooLarge { .. } => ErrorKind::Image,
            Self::InvalidRequest { .. }
            | Self::InvalidStyle { .. }
            | Self::InvalidFont { .. }
            | Self::PromptTooLong { .. }
            | Self::VisionTokensWidth { .. }
            | Self::CacheBudget { .. } => ErrorKind::Request,
            Self::WeightFormat { .. }
            | Self::Config { .. }
            | Self::ModelFolder { .. }
            | Self::Json { .. }
            | Self::Safetensors { .. }
            | Self::TensorMissing { .. }
            | Self::TensorUnexpected { .. }
            | Self::TensorShape { .. }
            | Self::TensorDtype { .. }
            | Self::TensorNotFinite { .. }
            | Self::Tokenizer { .. } => ErrorKind::Model,
            Self::DeviceUnavailable { .. } | Self::Threads { .. } | Self::Execution { .. } | Self::NotFinite { .. } => {
                ErrorKind::Device
            }
            Self::Hub { .. } => ErrorKind::Hub,
            Self::QueueFull { .. } => ErrorKind::Busy,
            Self::EngineStopped | Self::EnginePanicked { .. } => ErrorKind::Engine,
        }
    }

    /// An [`Error::Read`] for this path; for `map_err`.
    pub fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    /// An [`Error::Write`] for this path; for `map_err`.
    pub fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    /// An [`Error::InvalidStyle`].
    pub fn invalid_style(field: &'static str, found: impl ToString, expected: impl ToString) -> Self {
        Self::InvalidStyle { field, found: found.to_string(), expected: expected.to_string() }
    }

    /// An [`Error::InvalidRequest`].
    pub fn invalid_request(field: &'static str, found: impl ToString, expected: impl ToString) -> Self {
        Self::InvalidRequest { field, found: found.to_string(), expected: expected.to_string() }
    }
}

fn names_instead(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!("; it calls its tensors {}", found.join(", ")) }
}
