//! The chunks of a PNG file, for what the decoder does not tell.

/// One chunk; its checksum is the decoder's business.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) kind: [u8; 4],
    pub(crate) data: &'a [u8],
}

/// Bytes of the signature before the first chunk.
const SIGNATURE: usize = 8;

/// The whole chunks of a PNG file, in order; ends silently where the data ends.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (kind, after) = after.split_first_chunk()?;
        let (data, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let (_checksum, after) = after.split_first_chunk::<4>()?;
        rest = after;
        Some(Chunk { kind: *kind, data })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_with_the_data() {
        let bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x02tEXtab####\0\0\0\0IEND####\0\0\0\x09IDATcut";
        let found: Vec<_> = chunks(bytes).map(|chunk| (chunk.kind, chunk.data.to_vec())).collect();
        assert_eq!(found, [(*b"tEXt", b"ab".to_vec()), (*b"IEND", Vec::new())]);
        assert_eq!(chunks(b"short").count(), 0);
    }
}
