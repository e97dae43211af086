//! One page as the model's user sees it: upright, opaque, 8 bits a channel.

use crate::{Alpha, PageOptions, color, decode};
use deepseek_ocr_core::Result;
use image::{DynamicImage, Rgb, RgbImage};
use std::{fmt, path::Path, sync::Arc};

/// One page: an upright, opaque RGB image. A clone shares the pixels.
///
/// ```
/// use deepseek_ocr_preprocess::Page;
///
/// let page = Page::from_bytes(b"P3 2 1 255  255 0 0  0 0 255")?;
/// assert_eq!((page.width(), page.height()), (2, 1));
/// assert_eq!(page.rgb().as_raw(), &[255, 0, 0, 0, 0, 255]);
/// # Ok::<(), deepseek_ocr_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Page(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    rgb: RgbImage,
    warnings: Vec<PageWarning>,
}

/// Something about a page that its reader should know, though there is a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PageWarning {
    /// The file holds more pages or frames than the first, which was read; see [`PageOptions::page`].
    MoreFrames {
        /// How many there are, the first one included.
        frames: usize,
    },
    /// The file ends before its format's end mark, after the last row of pixels.
    EndMissing {
        /// The file's format.
        format: &'static str,
    },
    /// Some of the pixels cannot be read, because the file was cut or spoiled; what stands in their place is arbitrary.
    Damaged {
        /// The file's format.
        format: &'static str,
        /// How it was noticed.
        reason: String,
    },
    /// The visible pixels are all alike, though those of the file are not: they differ where they are transparent, or in how
    /// transparent they are. Another [`Alpha`] may show it.
    Invisible,
    /// The image in memory had no pixels; the page is one white pixel.
    Empty {
        /// Width of the image in memory.
        width: u32,
        /// Height of the image in memory.
        height: u32,
    },
}

impl Page {
    /// Reads a file in any of the supported formats, with the default [`PageOptions`].
    ///
    /// # Errors
    /// If the file cannot be read, is no image, is damaged, cut off, empty, or over the limits.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        PageOptions::default().open(path)
    }

    /// Reads an encoded image from memory, with the default [`PageOptions`].
    ///
    /// # Errors
    /// As [`open`](Self::open), less the reading.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        PageOptions::default().from_bytes(bytes)
    }

    /// The number of pages of an encoded image: of a TIFF file's, less its reduced copies and masks, or of an animation's
    /// frames (GIF, WebP, PNG). All other files have one; the pictures of an icon are sizes of one.
    ///
    /// Nothing is decoded, so that a page that is counted can still be damaged.
    ///
    /// ```
    /// use deepseek_ocr_preprocess::Page;
    ///
    /// let file = b"P3 2 1 255  255 0 0  0 0 255";
    /// for number in 0..Page::count(file)? {
    ///     let page = Page::reader().with_page(number).from_bytes(file)?;
    ///     assert_eq!(page.width(), 2);
    /// }
    /// # Ok::<(), deepseek_ocr_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAnImage`](deepseek_ocr_core::Error::NotAnImage) if the format is not known.
    pub fn count(bytes: &[u8]) -> Result<usize> {
        decode::count(bytes)
    }

    /// Reading with other limits or another treatment of transparency.
    ///
    /// ```
    /// use deepseek_ocr_preprocess::{Alpha, Page};
    ///
    /// let reader = Page::reader().with_alpha(Alpha::Drop).with_max_side(4096);
    /// assert!(reader.open("no such file").is_err());
    /// ```
    pub fn reader() -> PageOptions {
        PageOptions::default()
    }

    /// Width in pixels, after the orientation was applied.
    pub fn width(&self) -> u32 {
        self.0.rgb.width()
    }

    /// Height in pixels, after the orientation was applied.
    pub fn height(&self) -> u32 {
        self.0.rgb.height()
    }

    /// The pixels.
    pub fn rgb(&self) -> &RgbImage {
        &self.0.rgb
    }

    /// What should be known about this page; mostly nothing.
    pub fn warnings(&self) -> &[PageWarning] {
        &self.0.warnings
    }

    /// The pixels, copied first if a clone of this page shares them.
    #[cfg(feature = "typeset")]
    pub(crate) fn rgb_mut(&mut self) -> &mut RgbImage {
        &mut Arc::make_mut(&mut self.0).rgb
    }

    pub(crate) fn new(rgb: RgbImage, mut warnings: Vec<PageWarning>) -> Self {
        let (width, height) = rgb.dimensions();
        if width > 0 && height > 0 {
            return Self(Arc::new(Inner { rgb, warnings }));
        }
        warnings.push(PageWarning::Empty { width, height });
        Self(Arc::new(Inner { rgb: RgbImage::from_pixel(1, 1, Rgb([255; 3])), warnings }))
    }
}

impl From<&Page> for Page {
    fn from(page: &Page) -> Self {
        page.clone()
    }
}

/// Transparency is treated as [`Alpha::ByContrast`] says; for anything else see [`PageOptions::from_image`].
impl From<DynamicImage> for Page {
    fn from(image: DynamicImage) -> Self {
        let (rgb, warning) = color::to_rgb(image, Alpha::default());
        Self::new(rgb, warning.into_iter().collect())
    }
}

/// An image without pixels becomes one white pixel and [`PageWarning::Empty`].
impl From<RgbImage> for Page {
    fn from(image: RgbImage) -> Self {
        Self::new(image, Vec::new())
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({} x {}", self.width(), self.height())?;
        for warning in self.warnings() {
            write!(f, ", {warning}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for PageWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MoreFrames { frames } => write!(f, "the file holds {frames} frames, only the first was read"),
            Self::EndMissing { format } => write!(f, "the {format} data lacks its end mark, no pixels are missing"),
            Self::Damaged { format, reason } => write!(f, "the {format} data is damaged: {reason}"),
            Self::Invisible => f.write_str("the visible pixels are all alike, though those of the file are not"),
            Self::Empty { width, height } => {
                write!(f, "the image had no pixels ({width} x {height}) and became one white pixel")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cheap_to_share() {
        fn shared<T: Clone + Send + Sync + 'static>(value: &T) -> T {
            value.clone()
        }
        let page = Page::from(RgbImage::new(3, 2));
        assert!(std::ptr::eq(shared(&page).rgb(), page.rgb()));
    }

    #[test]
    fn an_empty_image_warns() {
        let page = Page::from(RgbImage::new(0, 7));
        assert_eq!((page.width(), page.height()), (1, 1));
        assert_eq!(page.warnings(), [PageWarning::Empty { width: 0, height: 7 }]);
    }

    #[test]
    fn transparency_lies_over_white() {
        let clear = image::RgbaImage::from_pixel(2, 2, image::Rgba([10, 20, 30, 0]));
        assert!(Page::from(DynamicImage::from(clear)).rgb().as_raw().iter().all(|&sample| sample == 255));
    }
}
