//! Page decoding, of each page in a file: one within the limits or an error, the same each time, and damage never without a warning.
#![no_main]

use deepseek_ocr_preprocess::{Alpha, Damage, Page, PageOptions, PageWarning};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

const SIDE: u32 = 600;
const ALLOC: u64 = 2 << 20;

fuzz_target!(|bytes: &[u8]| {
    let reader = Page::reader().with_max_side(SIDE).with_max_alloc(ALLOC);
    let Ok(count) = Page::count(bytes) else {
        assert!(reader.from_bytes(bytes).is_err(), "no format is known, and yet there is a page");
        return;
    };
    assert!(count >= 1);
    assert!(reader.clone().with_page(count).from_bytes(bytes).is_err(), "a page behind the last of {count}");
    for number in BTreeSet::from([0, 1usize.min(count - 1), count - 1]) {
        check(bytes, &reader.clone().with_page(number), count);
    }
});

fn check(bytes: &[u8], reader: &PageOptions, count: usize) {
    let found = reader.from_bytes(bytes);
    let refusing = reader.clone().with_damage(Damage::Refuse).from_bytes(bytes);
    let Ok(page) = found else {
        assert!(refusing.is_err(), "refusing damage lets through what warning does not");
        return;
    };
    within_limits(&page, reader);
    assert!(reader.from_bytes(bytes).is_ok_and(|again| again == page), "another page the second time");
    let wide = Page::reader().with_page(reader.page).from_bytes(bytes);
    assert!(wide.is_ok_and(|wide| wide == page), "another page under wider limits");

    for alpha in [Alpha::OverWhite, Alpha::Drop] {
        let other = reader.clone().with_alpha(alpha).from_bytes(bytes).expect("transparency does not decide");
        assert_eq!((other.width(), other.height()), (page.width(), page.height()));
    }

    let damage = |w: &PageWarning| matches!(w, PageWarning::Damaged { .. } | PageWarning::EndMissing { .. });
    match refusing {
        Ok(whole) => assert!(whole == page && !page.warnings().iter().any(damage), "{page:?}"),
        Err(_) => assert!(page.warnings().iter().any(damage), "refused without a warning: {page:?}"),
    }
    let more = page.warnings().contains(&PageWarning::MoreFrames { frames: count });
    assert_eq!(more, count > 1 && reader.page == 0, "{count} pages: {page:?}");
    assert!(!page.warnings().iter().any(|w| matches!(w, PageWarning::Empty { .. })), "a file has pixels");
    assert!(page.warnings().iter().all(|w| !w.to_string().is_empty()));
    survives_a_copy(&page);
}

fn within_limits(page: &Page, reader: &PageOptions) {
    // The file may be turned, the limits are of the image as it lies in it.
    let (least, most) = (page.width().min(page.height()), page.width().max(page.height()));
    assert!(least >= 1 && most <= reader.max_width.max(reader.max_height), "{page:?}");
    assert!(page.rgb().as_raw().len() as u64 <= reader.max_alloc, "{page:?}");
}

/// The pixels, written in the plainest format and read again.
fn survives_a_copy(page: &Page) {
    let mut copy = format!("P6 {} {} 255\n", page.width(), page.height()).into_bytes();
    copy.extend_from_slice(page.rgb().as_raw());
    let copy = Page::from_bytes(&copy).expect("a file that was written here");
    assert!(copy.rgb() == page.rgb() && copy.warnings().is_empty());
}
