//! The compressed page: what the encoder hands to the decoder.

use crate::{Error, Result};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// The vision tokens of one page, in the order in which the decoder reads them.
#[derive(Debug, Clone)]
pub struct VisionTokens {
    tokens: Tensor<2>,
    page_size: Option<(u32, u32)>,
}

impl VisionTokens {
    /// Wraps a `[tokens, hidden]` tensor.
    pub fn new(tokens: Tensor<2>) -> Self {
        Self { tokens, page_size: None }
    }

    /// Notes the size of the page in pixels, in which its regions are then given.
    pub fn with_page_size(mut self, width: u32, height: u32) -> Self {
        self.page_size = Some((width, height));
        self
    }

    /// Width and height of the page in pixels, if they are known.
    pub fn page_size(&self) -> Option<(u32, u32)> {
        self.page_size
    }

    /// Number of vision tokens, line ends and separator included.
    pub fn len(&self) -> usize {
        self.tokens.dims()[0]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width of a token: the decoder's hidden size.
    pub fn width(&self) -> usize {
        self.tokens.dims()[1]
    }

    /// The tokens, `[tokens, hidden]`.
    pub fn tensor(&self) -> Tensor<2> {
        self.tokens.clone()
    }

    /// Text tokens that one vision token stands for when the page holds `text_tokens` of them.
    pub fn compression_ratio(&self, text_tokens: usize) -> f64 {
        text_tokens as f64 / self.len().max(1) as f64
    }

    /// Reads the tokens back to the host as f32, `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`Error::Execution`] if the device fails.
    pub fn to_data(&self) -> Result<TensorData> {
        let data =
            self.tokens.clone().try_into_data().map_err(|e| Error::Execution { source: e.to_string().into() })?;
        Ok(data.convert_dtype(DType::F32))
    }

    /// Puts tokens that [`to_data`](Self::to_data) gave onto a device.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if `data` is not a float matrix.
    pub fn from_data(data: TensorData, device: &Device) -> Result<Self> {
        if data.shape().len() != 2 || !data.dtype().is_float() {
            let found = format!("{:?} of shape {:?}", data.dtype(), data.shape());
            return Err(Error::invalid_request("vision tokens", found, "a float matrix [tokens, hidden]"));
        }
        let data = data.convert_dtype(DType::F32);
        Ok(Self::new(Tensor::from_data(data, (device, DType::F32))))
    }
}
