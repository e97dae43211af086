//! What the critics ask to be compared with: to cut the text off, and to average its embeddings.

use crate::{
    precision::Precision,
    reader::{Passage, Reader},
};
use burn::tensor::TensorData;
use deepseek_ocr::{Result, Task, Tokenizer, VisionTokens, decoder::Segment};

/// Asks for a text that stands where else a page stands.
const REPEAT: &str = "<image>\nRepeat the text.";

/// The mean precision of texts of which the first `budget` tokens are kept.
///
/// # Errors
/// Those of the tokenizer.
pub fn truncated(tokenizer: &Tokenizer, truths: &[&str], budget: usize) -> Result<Precision> {
    let kept = |truth: &&str| -> Result<Precision> {
        let ids = tokenizer.encode(truth)?;
        Precision::of(&tokenizer.decode(&ids[..budget.min(ids.len())])?, truth, tokenizer)
    };
    Ok(Precision::mean(truths.iter().map(kept).collect::<Result<Vec<_>>>()?.into_iter()))
}

/// A text's embeddings in the page's place, averaged in groups of neighbours that are as small as `budget` allows, to be repeated.
///
/// # Errors
/// Those of the model.
pub fn pooled<'a>(reader: &Reader, truth: &'a str, budget: usize) -> anyhow::Result<Passage<'a>> {
    Ok(Passage { vision: pool(reader, truth, budget)?, truth, task: Task::Custom(REPEAT.into()) })
}

/// The embeddings of a text, averaged in groups of neighbours down to at most `budget`.
fn pool(reader: &Reader, text: &str, budget: usize) -> anyhow::Result<VisionTokens> {
    // The model's own tokens: only these have embeddings.
    let ids = reader.ocr.tokenizer().encode(text)?;
    let group = ids.len().div_ceil(budget).max(1);
    let embeddings = VisionTokens::new(reader.ocr.decoder().embed(&[Segment::Text(ids)])?);
    let (data, width) = (embeddings.to_data()?, embeddings.width());
    let numbers = data.as_slice::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mean = |group: &[f32]| {
        let tokens = group.len() / width;
        (0..width).map(|at| group.iter().skip(at).step_by(width).sum::<f32>() / tokens as f32).collect::<Vec<f32>>()
    };
    let means: Vec<f32> = numbers.chunks(group * width).flat_map(mean).collect();
    let shape = [means.len() / width, width];
    Ok(VisionTokens::from_data(TensorData::new(means, shape), reader.ocr.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepseek_ocr::Device;

    #[test]
    fn what_is_cut_off_is_lost_and_nothing_else() -> Result<()> {
        let tokenizer = crate::reader::released_tokenizer()?;
        let text = "one two three four five six seven eight";
        let tokens = tokenizer.encode(text)?.len();
        let half = truncated(&tokenizer, &[text], tokens / 2)?;
        assert!((half.tokens - 0.5).abs() < 1e-9 && (half.words - 0.5).abs() < 1e-9, "{half:?}");
        assert_eq!(truncated(&tokenizer, &[text], tokens)?.characters, 1.0);
        Ok(())
    }

    #[test]
    fn groups_are_averaged_within_the_budget() -> anyhow::Result<()> {
        let reader = Reader::open(None, &Device::flex())?;
        let numbers = |text: &str, budget| -> anyhow::Result<(usize, Vec<f32>)> {
            let pooled = pool(&reader, text, budget)?;
            Ok((pooled.len(), pooled.to_data()?.as_slice::<f32>().map_err(|e| anyhow::anyhow!("{e:?}"))?.to_vec()))
        };
        let (a, b, both) = (numbers("a", 9)?, numbers("b", 9)?, numbers("abab", 2)?);
        assert_eq!((a.0, both.0), (1, 2));
        for (at, mean) in both.1.iter().enumerate() {
            let expected = (a.1[at % a.1.len()] + b.1[at % b.1.len()]) / 2.0;
            assert!((mean - expected).abs() < 1e-6, "{mean} {expected}");
        }
        assert_eq!(numbers("abcde", 2)?.0, 2);
        Ok(())
    }
}
