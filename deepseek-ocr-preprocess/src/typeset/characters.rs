//! Characters that show nothing.

/// White space, controls and characters that act on others: a glyph for one of these may be blank.
pub(crate) fn is_invisible(character: char) -> bool {
    let blank = matches!(character,
        // The blank pattern of Braille, a rest in music and a filler that hold a place, and format characters (Cf) that
        // are not ignorable: of annotations and hieroglyphs.
        '\u{2800}' | '\u{1d159}' | '\u{16fe4}' | '\u{fff9}'..='\u{fffb}' | '\u{13430}'..='\u{13455}');
    blank || character.is_whitespace() || character.is_control() || is_ignorable(character)
}

/// White space at which no line ends.
pub(crate) fn is_no_break(character: char) -> bool {
    matches!(character, '\u{a0}' | '\u{2007}' | '\u{202f}')
}

/// Characters that are invisible by nature (Unicode's `Default_Ignorable_Code_Point`): a font need not have them.
pub(crate) fn is_ignorable(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}
