//! `[[x1, y1, x2, y2], ..]`: boxes as the model writes them.

use serde_json::Value;

/// `x1, y1, x2, y2` from 0 to [`SCALE`], in any order and perhaps outside.
pub(super) type Corners = [f64; 4];

/// Coordinates run from 0 to this.
pub(super) const SCALE: f64 = 999.0;

/// Boxes that make up a whole text: a list of them, one alone, or several one behind the other.
pub(super) fn all(text: &str) -> Option<Vec<Corners>> {
    let (mut boxes, mut rest) = (Vec::new(), text);
    while !rest.trim().is_empty() {
        let (found, used) = leading(rest)?;
        boxes.extend(found?);
        rest = rest[used..].trim_start().trim_start_matches(',');
    }
    (!boxes.is_empty()).then_some(boxes)
}

/// The list of numbers at the start of a text, and where it ends. Of numbers that are no boxes there are none.
pub(super) fn leading(text: &str) -> Option<(Option<Vec<Corners>>, usize)> {
    let list = text.trim_start();
    let length = list_length(list)?;
    Some((read(&list[..length]), text.len() - list.len() + length))
}

/// One box of whole numbers within the scale at the start of a text, and where it ends.
pub(super) fn leading_one(text: &str) -> Option<(Vec<Corners>, usize)> {
    let length = list_length(text)?;
    let value: Value = serde_json::from_str(&text[..length]).ok()?;
    let one = match value.as_array()?.as_slice() {
        [Value::Array(one)] => one,
        one => one,
    };
    let numbers = one.iter().map(|number| number.as_u64().filter(|&number| number <= SCALE as u64));
    let corners: Vec<f64> = numbers.map(|number| Some(number? as f64)).collect::<Option<_>>()?;
    Some((vec![corners.try_into().ok()?], length))
}

/// Whether a text can be the beginning of boxes at which an answer was cut off.
pub(super) fn is_cut(text: &str) -> bool {
    text.bytes().all(is_of_list)
}

/// What was complete when an answer was cut off.
pub(super) fn cut(text: &str) -> Option<Vec<Corners>> {
    // A number at the end may have had more digits.
    text.trim_end().strip_suffix(']').and_then(|inner| read(&format!("{inner}]]")))
}

/// Bytes up to the bracket that closes the first one; nothing if anything but numbers is between them.
fn list_length(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let length = text.bytes().take_while(|&byte| is_of_list(byte)).position(|byte| {
        depth = match byte {
            b'[' => depth + 1,
            b']' => depth.saturating_sub(1),
            _ => depth,
        };
        depth == 0
    });
    #[cfg(test)]
    crate::work::add(length.unwrap_or(text.len()));
    length.filter(|_| text.starts_with('[')).map(|last| last + 1)
}

fn is_of_list(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_whitespace() || b"[],.+-eE".contains(&byte)
}

fn read(list: &str) -> Option<Vec<Corners>> {
    let mut boxes = Vec::new();
    collect(&serde_json::from_str(list).ok()?, &mut boxes)?;
    (!boxes.is_empty()).then_some(boxes)
}

/// A box is four numbers; a polygon, as more of them or as points, becomes the box around it.
fn collect(value: &Value, boxes: &mut Vec<Corners>) -> Option<()> {
    let list = value.as_array().filter(|list| !list.is_empty())?;
    let points: Option<Vec<[f64; 2]>> = list.iter().map(point).collect();
    if let Some(points) = points.filter(|points| points.len() > 1) {
        boxes.push(around(&points)?);
    } else if list[0].is_array() {
        list.iter().try_for_each(|inner| collect(inner, boxes))?;
    } else {
        let numbers: Vec<f64> = list.iter().map(Value::as_f64).collect::<Option<_>>()?;
        boxes.push(match numbers.as_chunks::<2>() {
            (&[[x1, y1], [x2, y2]], []) => [x1, y1, x2, y2],
            (points, []) => around(points)?,
            _ => return None,
        });
    }
    Some(())
}

fn point(value: &Value) -> Option<[f64; 2]> {
    match value.as_array()?.as_slice() {
        [x, y] => Some([x.as_f64()?, y.as_f64()?]),
        _ => None,
    }
}

fn around(points: &[[f64; 2]]) -> Option<Corners> {
    let edges = |[x1, y1, x2, y2]: Corners, &[x, y]: &[f64; 2]| [x1.min(x), y1.min(y), x2.max(x), y2.max(y)];
    let &[x, y] = points.first().filter(|_| points.len() > 1)?;
    Some(points.iter().fold([x, y, x, y], edges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_may_be_written_in_many_ways() {
        let one = Some(vec![[1.0, 2.0, 3.0, 4.0]]);
        for text in ["[[1,2,3,4]]", " [1, 2, 3, 4]\n", "[[1.0, 2e0, 3, 4]]", "[[[1,2,3,4]]]", "[[1,2],[3,4]]"] {
            assert_eq!(all(text), one, "{text}");
        }
        for text in ["[3,2,1,4,2,3]", "[[3,2,1,4,2,3]]", "[[3,2],[1,4],[2,3]]", "[[[3,2],[1,4],[2,3]]]"] {
            assert_eq!(all(text), one, "the box around the polygon {text}");
        }
        let two = Some(vec![[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]);
        for text in ["[[1,2,3,4],[5,6,7,8]]", "[1,2,3,4], [5,6,7,8]", "[1,2,3,4][5,6,7,8]", "[[1,2,3,4]]\n[[5,6,7,8]]"]
        {
            assert_eq!(all(text), two, "{text}");
        }
    }

    #[test]
    fn what_is_no_box_is_none() {
        for text in [
            "",
            "[]",
            "[[]]",
            "[[1,2]]",
            "[1,2]",
            "[[1,2,3]]",
            "[[1,2,3,4,5]]",
            "[[1,2,3,4],[5,6]]",
            "[[1,2,3,4",
            "[[1,2,3,4]]]",
            "[[NaN,2,3,4]]",
            "[[1e999,2,3,4]]",
            "[[\"1\",2,3,4]]",
            "__import__('os')",
        ] {
            assert_eq!(all(text), None, "{text}");
        }
        assert_eq!(all(&"[".repeat(100_000)), None);
        assert_eq!(all(&("[".repeat(100_000) + &"]".repeat(100_000))), None, "too deep, and no stack overflows");
    }

    #[test]
    fn of_boxes_that_were_cut_off_the_complete_ones_count() {
        assert_eq!(cut("[[1,2,3,4]"), Some(vec![[1.0, 2.0, 3.0, 4.0]]));
        assert_eq!(cut("[[1,2,3,4"), None, "the last number may have had more digits");
        assert!(is_cut("[[1, 2, 3") && is_cut("") && !is_cut("[[1, x"));
    }
}
