//! Page images to the square views that DeepSeek-OCR reads, pixel for pixel as the released processor makes them.
//!
//! Most programs want the facade crate [`deepseek-ocr`](https://docs.rs/deepseek-ocr), which re-exports [`Page`].
//!
//! # Steps
//!
//! 1. [`Page`]: PNG, JPEG, WebP, TIFF, BMP, GIF, ICO or PNM, decoded within limits, turned upright, laid over white
//!    (or what shows more), 8 bits a channel. [`PageOptions`] holds the limits; what is odd about a file is in [`Page::warnings`].
//! 2. [`Mode`](deepseek_ocr_core::Mode) says which views there are: one square page view, and in the Gundam modes a grid
//!    of tiles when the page is larger than one tile.
//! 3. [`views`]: the page view is stretched (Tiny, Small) or padded with grey ([`Placement`]); the tiles are cut from the
//!    page resized to the grid. [`resize`](resize()) is Pillow's 8-bit bicubic to the bit.
//! 4. [`View::normalize_into`](deepseek_ocr_core::View::normalize_into) makes the encoder's input of a view.
//!
//! The other way round, [`Page::typeset`] sets text on pages (feature `typeset`, on by default).
//!
//! ```
//! use deepseek_ocr_core::Mode;
//! use deepseek_ocr_preprocess::{Page, image, views};
//!
//! let page = Page::from(image::RgbImage::new(2480, 3508));
//! let views = views(&page, Mode::Gundam);
//! assert_eq!(views.page().side(), 1024);
//! assert_eq!((views.grid().columns, views.grid().rows), (2, 3));
//! ```

mod bmp;
mod color;
mod decode;
mod ending;
mod exif;
mod fit;
mod frames;
mod gif;
mod ico;
mod jpeg;
mod metadata;
mod options;
mod orientation;
mod page;
mod png;
mod resize;
mod sniff;
mod tiff;
mod tiling;
#[cfg(feature = "typeset")]
mod typeset;
mod views;
mod webp;
mod xmp;

pub use fit::Placement;
pub use image;
pub use options::{Alpha, Damage, PageOptions};
pub use page::{Page, PageWarning};
pub use resize::resize;
#[cfg(feature = "typeset")]
pub use typeset::{Arrangement, Compression, Fitted, Font, Margins, Missing, Style, Typeset, TypesetPage, Typesetter};
pub use views::{views, views_with};
