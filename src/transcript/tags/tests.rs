use crate::{PixelBox, Region, Transcript};
use proptest::prelude::*;

const PAGE: (u32, u32) = (1500, 500);

fn transcript(text: &str) -> Transcript {
    Transcript::parse(text, PAGE)
}

fn region(label: &str, text: &str) -> Region {
    Region { label: label.into(), boxes: vec![PixelBox { x1: 124, y1: 18, x2: 1372, y2: 48 }], text: text.into() }
}

#[track_caller]
fn check(text: &str, regions: &[Region], markdown: &str) {
    assert_eq!(transcript(text).regions(), regions, "{text}");
    let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(transcript(text).markdown().trim()), lines(markdown), "{text}");
}

#[test]
fn tags_are_found_however_much_of_them_is_left() {
    for tag in [
        "<|ref|>title<|/ref|><|det|>[[83, 36, 914, 97]]<|/det|>\n",
        "<｜ref｜>title<｜/ref｜><｜det｜>[[83, 36, 914, 97]]<｜/det｜>\n",
        "<|ref|>title<|/ref|>\n<|det|>[83, 36, 914, 97]<|/det|>",
        "<|ref|>title<|/ref|><|det|>[[914, 97, 83, 36]]\n",
        "<|ref|>title<|det|>[[83, 36, 914, 97]]<|/det|>",
        "<|ref|>title<|/ref|>[[83, 36, 914, 97]]<|/det|>",
        "<|det|>title [83, 36, 914, 97]<|/det|>",
        "<|det|>title [[83, 36, 914, 97]]<|/det|>\n",
        "<|det|>title[83,36,914,97]",
        "<|det|>title [83, 36, 914, 36, 914, 97, 83, 97]<|/det|>",
        "title<|det|>[[83, 36, 914, 97]]<|/det|>\n",
        "title[[83, 36, 914, 97]]\n",
        "title[[914, 97, 83, 36]]  \n",
        "title [[83, 36, 914, 97]]\n",
        "title [83, 36, 914, 97]",
    ] {
        check(&format!("{tag}# A"), &[region("title", "# A")], "# A");
        check(&format!("{tag}# A\n{tag}甲"), &[region("title", "# A"), region("title", "甲")], "# A\n甲");
    }
    let boxes = transcript("<|det|>text [0,0,999,999], [83,36,914,97]<|/det|>a").regions();
    assert_eq!(boxes[0].boxes.len(), 2);
}

#[test]
fn text_that_looks_like_a_tag_stays() {
    for text in [
        "see table[[1, 2, 3, 4]]",
        "see table [[1, 2, 3, 4]] there",
        "a[[0]]",
        "a[[0, 1, 2, 3]]",
        "m[[1, 2, 3, 4]] = 5",
        "table[[1, 2, 3, 4]] = 5",
        "text[[1, 2, 3, 4]].reshape(2, 2)",
        "text [1, 2, 3, 4], and others",
        "text [1, 2, 3, 4] shows",
        "text [1, 2, 3, 4].",
        "title[[1, 2, 3]]",
        "title[[1, 2, 3, 1000]]",
        "title[[1, 2, 3, -4]]",
        "title[[1, 2, 3, 4",
        "Title[[1, 2, 3, 4]]",
        "```\ntext[[1, 2, 3, 4]]\n```",
        "- list[[1, 2, 3, 4]]",
        "the token <|ref|> opens a label.",
        "<|ref|>a<|/ref|> and no box",
        "<|det|>no box<|/det|>",
        "<|det|>see [1] and more<|/det|>",
        "one <PAGE> of two",
        "<PAGE> of two",
        "x < y | z > [1, 2, 3, 4]",
    ] {
        check(text, &[], text);
        check(&format!("b\n\n{text}\nc"), &[], &format!("b\n\n{text}\nc"));
    }
}

#[test]
fn marks_of_pages_and_the_end_token_are_no_text() {
    let text = "<PAGE><|det|>title [83, 36, 914, 97]<|/det|># A\n<PAGE>\nb<｜end▁of▁sentence｜>\n<--- Page Split --->\ntitle[[83, 36, 914, 97]]\nc<PAGE><|det|>title [83, 36, 914, 97]<|/det|>d<｜end▁of▁sentence｜>";
    let regions = [region("title", "# A"), region("title", "c"), region("title", "d")];
    assert_eq!(transcript(text).regions(), regions);
    assert_eq!(transcript(text).markdown().split_whitespace().collect::<Vec<_>>(), ["#", "A", "b", "cd"]);
    check("a<|end▁of▁sentence|>", &[], "a");
}

#[test]
fn a_tag_that_was_cut_off_is_no_text() {
    let tag = "<|ref|>title<|/ref|><|det|>[[83, 36, 914, 97]]<|/det|>";
    for length in 0..tag.len() {
        let text = format!("before\n{}", &tag[..length]);
        let complete = length >= "<|ref|>title<|/ref|><|det|>[[83, 36, 914, 97]".len();
        let regions = if complete { vec![region("title", "")] } else { Vec::new() };
        // A few characters of the first token can be anything.
        let markdown = if length < "<|ref|>".len() { text.trim() } else { "before" };
        check(&text, &regions, markdown);
    }
    check("b\n<|det|>title [83, 36, 914, 9", &[], "b");
}

#[test]
fn pictures_are_counted_in_every_form() {
    let text = "<|det|>image [83, 36, 914, 97]<|/det|>\nimage[[83, 36, 914, 97]]\n<|ref|>image<|/ref|><|det|>[[83, 36, 914, 97]]<|/det|>\nimage [83, 36, 914, 97]";
    let text = format!("{text}\nimage[[83, 36, 914, 97]]image[[1, 2, 3, 4]]");
    assert_eq!(transcript(&text).regions().len(), 6);
    let links: Vec<String> =
        transcript(&text).markdown().lines().filter(|line| line.contains("images/")).map(str::to_owned).collect();
    assert_eq!(links, [0, 1, 2, 3, 1, 5].map(|link| format!("![](images/{link}.jpg)")));
}

/// The released clean-up, tag by tag over the whole text.
fn released(text: &str) -> String {
    let (mut tags, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find("<|ref|>") {
        let Some(end) = rest[start..].find("<|/det|>").map(|end| start + end + "<|/det|>".len()) else { break };
        tags.push(&rest[start..end]);
        rest = &rest[end..];
    }
    let (images, others): (Vec<_>, Vec<_>) =
        tags.into_iter().partition(|tag: &&str| tag.contains("<|ref|>image<|/ref|>"));
    let linked = images
        .iter()
        .enumerate()
        .fold(text.to_owned(), |text, (k, tag)| text.replace(tag, &format!("![](images/{k}.jpg)\n")));
    let cleaned = others.iter().fold(linked, |text, tag| text.replace(tag, ""));
    if others.is_empty() { cleaned } else { cleaned.replace("\\coloneqq", ":=") }
}

proptest! {
    #[test]
    fn whole_tags_are_cleaned_up_as_the_released_code_does(
        parts in prop::collection::vec(("(image|title|a\nb)", 0..3u32, "(\n|# A\n| \\\\coloneqq |é)"), 0..12),
    ) {
        let part = |(label, at, text): &(String, u32, String)| {
            format!("<|ref|>{label}<|/ref|><|det|>[[{at}, 2, 3, 4]]<|/det|>{text}")
        };
        let text: String = parts.iter().map(part).collect();
        prop_assert_eq!(transcript(&text).markdown(), released(text.trim()));
        prop_assert_eq!(transcript(&text).regions().len(), parts.len());
    }
}

#[test]
fn the_work_grows_with_the_text_and_no_faster() {
    for part in [
        "<|ref|>",
        "<|det|>",
        "<|ref|>a<|/ref|>",
        "<|ref|>a<|/ref|><|det|>[[1, 2",
        "<|det|>text [1, 2, 3, 4]<|/det|>",
        "<|ref|>image<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>",
        "image[[1, 2, 3, 4]]",
        "text [1, 2, 3, 4]\n",
        "text[[[[[\n",
        "text[[",
        "[",
        "<",
        "<PAGE>",
        "<PAGE> ",
        "<PAGE>\n",
        "```\n",
        "<|/det|>",
    ] {
        let work = |count: usize| {
            let transcript = transcript(&part.repeat(count));
            crate::work::of(|| (transcript.markdown(), transcript.regions()))
        };
        let (few, many) = (work(1000), work(8000));
        assert!(few >= 1900 * part.len() && many <= 9 * few, "{part:?}: {few}, then {many}");
    }
}
