//! What a prompt is made of: text and pages, in reading order.

use deepseek_ocr_core::VisionTokens;

/// A piece of a prompt.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // A prompt holds a handful of them.
pub enum Segment {
    /// Token ids.
    Text(Vec<u32>),
    /// An encoded page.
    Vision(VisionTokens),
}

/// A prompt: segments in order. It may hold several pages, or none.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The segments.
    pub segments: Vec<Segment>,
    /// The id that stands for each vision token where a repetition guard looks at the whole sequence.
    pub vision_id: u32,
}

impl Segment {
    /// Positions that it takes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(ids) => ids.len(),
            Self::Vision(tokens) => tokens.len(),
        }
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Prompt {
    /// Positions of all segments.
    pub fn len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One id per position: the text's own, and [`vision_id`](Self::vision_id) for each vision token.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.len());
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => ids.extend_from_slice(text),
                Segment::Vision(tokens) => ids.resize(ids.len() + tokens.len(), self.vision_id),
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn ids_hold_one_id_per_position_in_order() {
        let page = VisionTokens::new(Tensor::zeros([3, 4], &Device::flex()));
        let segments = vec![Segment::Text(vec![0, 5]), Segment::Vision(page), Segment::Text(vec![8])];
        let prompt = Prompt { segments, vision_id: 9 };
        assert_eq!(prompt.ids(), [0, 5, 9, 9, 9, 8]);
        assert_eq!(prompt.len(), 6);
    }
}
