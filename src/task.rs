//! The official prompts as an enum.

use deepseek_ocr_core::{Error, Result};
use std::{fmt, str::FromStr};

/// Where a page stands in a prompt.
pub(crate) const IMAGE: &str = "<image>";

/// What the model is asked to do with a page.
///
/// ```
/// use deepseek_ocr::Task;
///
/// assert_eq!(Task::FreeOcr.prompt(), "<image>\nFree OCR.");
/// assert_eq!("locate:the total".parse::<Task>()?, Task::Locate("the total".into()));
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Task {
    /// The document as Markdown, with the place of every part.
    #[default]
    Markdown,
    /// The text alone, without layout.
    FreeOcr,
    /// The text of an image that is not a document, with the place of every part.
    OcrImage,
    /// A chart or figure as a table or description.
    Figure,
    /// A description in words.
    Describe,
    /// The place of what is named.
    Locate(String),
    /// A prompt of one's own; `<image>` marks where each page stands, and is put first where it is missing.
    Custom(String),
}

impl Task {
    /// The prompt as the model was trained on it.
    pub fn prompt(&self) -> String {
        let question = match self {
            Self::Markdown => "<|grounding|>Convert the document to markdown.".into(),
            Self::FreeOcr => "Free OCR.".into(),
            Self::OcrImage => "<|grounding|>OCR this image.".into(),
            Self::Figure => "Parse the figure.".into(),
            Self::Describe => "Describe this image in detail.".into(),
            Self::Locate(what) => format!("Locate <|ref|>{what}<|/ref|> in the image."),
            Self::Custom(prompt) if prompt.contains(IMAGE) => return prompt.clone(),
            Self::Custom(prompt) => prompt.clone(),
        };
        format!("{IMAGE}\n{question}")
    }
}

impl fmt::Display for Task {
    /// The name that [`FromStr`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Markdown => f.write_str("markdown"),
            Self::FreeOcr => f.write_str("free-ocr"),
            Self::OcrImage => f.write_str("ocr-image"),
            Self::Figure => f.write_str("figure"),
            Self::Describe => f.write_str("describe"),
            Self::Locate(what) => write!(f, "locate:{what}"),
            Self::Custom(prompt) => write!(f, "custom:{prompt}"),
        }
    }
}

impl FromStr for Task {
    type Err = Error;

    /// Reads `markdown`, `free-ocr`, `ocr-image`, `figure`, `describe`, `locate:WHAT` or `custom:PROMPT`.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once(':') {
            Some(("locate", what)) => Self::Locate(what.into()),
            Some(("custom", prompt)) => Self::Custom(prompt.into()),
            _ => match text {
                "markdown" => Self::Markdown,
                "free-ocr" => Self::FreeOcr,
                "ocr-image" => Self::OcrImage,
                "figure" => Self::Figure,
                "describe" => Self::Describe,
                _ => {
                    let expected = "markdown, free-ocr, ocr-image, figure, describe, locate:WHAT or custom:PROMPT";
                    return Err(Error::invalid_request("task", format!("{text:?}"), expected));
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let tasks = [
            Task::Markdown,
            Task::FreeOcr,
            Task::OcrImage,
            Task::Figure,
            Task::Describe,
            Task::Locate("a: b".into()),
            Task::Custom("<image>\nWhy?".into()),
        ];
        for task in tasks {
            assert_eq!(task.to_string().parse::<Task>().expect("own name"), task);
        }
        assert!("ocr".parse::<Task>().is_err());
    }

    #[test]
    fn a_page_comes_first_where_the_prompt_does_not_place_it() {
        assert_eq!(Task::Custom("Why?".into()).prompt(), "<image>\nWhy?");
        assert_eq!(Task::Custom("Page: <image>\nWhy?".into()).prompt(), "Page: <image>\nWhy?");
    }
}
