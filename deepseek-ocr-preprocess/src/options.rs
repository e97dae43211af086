//! How a page is read: limits that hold before anything is decoded, and what becomes of transparency.

use crate::{Page, color, decode};
use deepseek_ocr_core::{Error, Result};
use image::DynamicImage;
use std::{fs::File, io::Read, path::Path};

/// Longest side by default: 2.7 m of paper at 300 dpi.
const MAX_SIDE: u32 = 32_768;

/// Memory for the decoded samples and the RGB copy by default: RGB pages of up to 89 million pixels.
const MAX_ALLOC: u64 = 512 << 20;

/// What becomes of transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Alpha {
    /// The image is laid over white paper, or over black or grey if more than a quarter of its outlines would vanish there:
    /// light text on a transparent ground can be read.
    #[default]
    ByContrast,
    /// The image is laid over white paper, whatever becomes of it.
    OverWhite,
    /// The alpha channel is dropped, as in the released processor; hidden colours become visible.
    Drop,
}

/// What becomes of files whose pixels are not all there.
///
/// It concerns those that still give a page: JPEGs that were cut or spoiled behind their header, PNG files with a spoiled
/// chunk beside the pixels, and files that lack only their format's end mark. A file of which nothing can be read is an error in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Damage {
    /// The page has what could be read, and a [`PageWarning`](crate::PageWarning) that says what is missing.
    #[default]
    Warn,
    /// [`Error::ImageTruncated`]: nothing is read from half a page.
    Refuse,
}

/// Limits and choices for reading a page; see [`Page::reader`].
///
/// Both limits are checked against the header, before a pixel is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageOptions {
    /// The most pixels that the image may be wide.
    pub max_width: u32,
    /// The most pixels that the image may be high.
    pub max_height: u32,
    /// The most bytes that the decoded samples and their RGB copy may take together, and that a file may have.
    ///
    /// A decoder's own working memory comes on top; for a progressive JPEG that is about two bytes a sample.
    pub max_alloc: u64,
    /// What becomes of transparent pixels.
    pub alpha: Alpha,
    /// What becomes of files whose pixels are not all there.
    pub damage: Damage,
    /// Which page of a TIFF, or frame of an animated GIF, WebP or PNG, is read; the first is 0. See [`Page::count`].
    pub page: usize,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self {
            max_width: MAX_SIDE,
            max_height: MAX_SIDE,
            max_alloc: MAX_ALLOC,
            alpha: Alpha::default(),
            damage: Damage::default(),
            page: 0,
        }
    }
}

impl PageOptions {
    /// Sets both [`max_width`](Self::max_width) and [`max_height`](Self::max_height).
    #[must_use]
    pub fn with_max_side(self, pixels: u32) -> Self {
        Self { max_width: pixels, max_height: pixels, ..self }
    }

    /// Sets [`max_width`](Self::max_width).
    #[must_use]
    pub fn with_max_width(self, pixels: u32) -> Self {
        Self { max_width: pixels, ..self }
    }

    /// Sets [`max_height`](Self::max_height).
    #[must_use]
    pub fn with_max_height(self, pixels: u32) -> Self {
        Self { max_height: pixels, ..self }
    }

    /// Sets [`max_alloc`](Self::max_alloc).
    #[must_use]
    pub fn with_max_alloc(self, bytes: u64) -> Self {
        Self { max_alloc: bytes, ..self }
    }

    /// Sets [`alpha`](Self::alpha).
    #[must_use]
    pub fn with_alpha(self, alpha: Alpha) -> Self {
        Self { alpha, ..self }
    }

    /// Sets [`damage`](Self::damage).
    #[must_use]
    pub fn with_damage(self, damage: Damage) -> Self {
        Self { damage, ..self }
    }

    /// Sets [`page`](Self::page).
    #[must_use]
    pub fn with_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Reads a file; its name does not matter, the content decides the format.
    ///
    /// # Errors
    /// If the file cannot be read, is no image, is damaged, cut off, empty, or over the limits;
    /// [`Error::InvalidRequest`] if it has no such [`page`](Self::page).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Page> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(Error::read(path))?;
        // One byte over the limit tells a file that is too long, and a device that never ends, from one that fits.
        file.take(self.max_alloc.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::read(path))?;
        self.from_bytes(&bytes)
    }

    /// Reads an encoded image from memory.
    ///
    /// # Errors
    /// As [`open`](Self::open), less the reading.
    #[allow(clippy::wrong_self_convention)] // the name that `Page` has for it too
    pub fn from_bytes(&self, bytes: &[u8]) -> Result<Page> {
        if bytes.len() as u64 > self.max_alloc {
            let limit = format!("{} bytes", self.max_alloc);
            return Err(Error::ImageTooLarge { found: "a file that is longer".into(), limit });
        }
        decode::decode(bytes, self)
    }

    /// Compares what a header claims with the limits: the size, and the bytes of the decoded samples.
    pub(crate) fn check(&self, width: u32, height: u32, samples: u64) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::ImageEmpty { width, height });
        }
        if width > self.max_width || height > self.max_height {
            return Err(Error::ImageTooLarge {
                found: format!("{width} x {height} pixels"),
                limit: format!("{} x {} pixels", self.max_width, self.max_height),
            });
        }
        let needed = samples.saturating_add(u64::from(width) * u64::from(height) * 3);
        if samples > 0 && needed > self.max_alloc {
            return Err(Error::ImageTooLarge {
                found: format!("{width} x {height} pixels in {needed} bytes"),
                limit: format!("{} bytes", self.max_alloc),
            });
        }
        Ok(())
    }

    /// A page from decoded pixels; the limits do not apply, the memory is there already.
    ///
    /// # Errors
    /// If the image has no pixels.
    #[allow(clippy::wrong_self_convention)] // the name that `Page` has for it too
    pub fn from_image(&self, image: DynamicImage) -> Result<Page> {
        let (width, height) = (image.width(), image.height());
        if width == 0 || height == 0 {
            return Err(Error::ImageEmpty { width, height });
        }
        let (rgb, warning) = color::to_rgb(image, self.alpha);
        Ok(Page::new(rgb, warning.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgba, RgbaImage};

    #[test]
    fn alpha_can_be_dropped() {
        let clear = DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 0])));
        let page = Page::reader().with_alpha(Alpha::Drop).from_image(clear).expect("it has a pixel");
        assert_eq!(page.rgb().as_raw(), &[10, 20, 30]);
    }

    #[test]
    fn limits_hold() {
        let page = b"P2 3 2 255  1 2 3 4 5 6";
        assert!(Page::reader().with_max_side(3).from_bytes(page).is_ok());
        for options in [
            Page::reader().with_max_width(2),
            Page::reader().with_max_height(1),
            Page::reader().with_max_alloc(23), // the file; its pixels need 6 + 18
            Page::reader().with_max_alloc(5),
        ] {
            assert!(matches!(options.from_bytes(page), Err(Error::ImageTooLarge { .. })), "{options:?}");
        }
        assert!(Page::reader().with_max_alloc(24).from_bytes(page).is_ok());
    }

    #[test]
    fn an_endless_file_is_too_large() {
        let endless = Page::reader().with_max_alloc(1 << 16).open("/dev/zero");
        if cfg!(target_os = "linux") {
            assert!(matches!(endless, Err(Error::ImageTooLarge { .. })));
        }
    }
}
