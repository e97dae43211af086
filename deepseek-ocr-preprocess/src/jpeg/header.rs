//! What the segments of a JPEG say: frame, tables, and the markers that decide the colour space.

use super::{
    Damage, FORMAT, be16,
    color::Space,
    entropy::{Code, standard_codes},
    idct, invalid,
};
use deepseek_ocr_core::{Error, Result};

/// Samples of a block's side.
pub(super) const SIDE: usize = 8;
/// Coefficients of a block.
pub(super) const BLOCK: usize = SIDE * SIDE;

/// The position of each coefficient in the order of the file (T.81, figure A.6).
pub(super) const ZIGZAG: [u8; BLOCK] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Steps of quantisation, in the order of the block's rows.
pub(super) type Steps = [u16; BLOCK];

/// What the segments before a scan say.
pub(super) struct Tables {
    pub(super) steps: [Option<Steps>; 4],
    /// Codes of DC and of AC coefficients. Before a file defines its own, the standard's examples stand, as Motion JPEG means.
    pub(super) codes: [[Option<Code>; 4]; 2],
    /// Coded units between two restart markers, 0 without restarts.
    pub(super) restart_interval: usize,
    jfif: bool,
    /// The colour transform that Adobe's marker states.
    adobe: Option<u8>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { steps: [None; 4], codes: standard_codes(), restart_interval: 0, jfif: false, adobe: None }
    }
}

impl Tables {
    /// Takes what a segment says; one that says nothing of the pixels is passed over.
    pub(super) fn read(&mut self, marker: u8, segment: &[u8]) -> Result<(), &'static str> {
        match marker {
            0xC4 => self.read_codes(segment).ok_or("a table of codes breaks the standard"),
            0xDB => self.read_steps(segment).ok_or("a table of quantisation breaks the standard"),
            0xDD => {
                self.restart_interval = be16(segment).ok_or("a restart interval without a value")?.into();
                Ok(())
            }
            0xE0 => {
                self.jfif |= segment.starts_with(b"JFIF\0");
                Ok(())
            }
            0xEE => {
                const TRANSFORM: usize = 11;
                if segment.starts_with(b"Adobe") {
                    self.adobe = segment.get(TRANSFORM).copied().or(self.adobe);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn read_codes(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(total)?;
            let place = self.codes.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))?;
            *place = Some(Code::new(counts, values)?);
            segment = rest;
        }
        Some(())
    }

    fn read_steps(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let place = self.steps.get_mut(usize::from(kind & 15))?;
            let size = if kind >> 4 == 0 { 1 } else { 2 };
            let (values, rest) = rest.split_at_checked(BLOCK * size)?;
            let mut steps = [0; BLOCK];
            for (value, &at) in values.chunks_exact(size).zip(&ZIGZAG) {
                steps[usize::from(at)] = if size == 1 { value[0].into() } else { be16(value)? };
            }
            *place = Some(steps);
            segment = rest;
        }
        Some(())
    }

    /// The colour space, decided as libjpeg does (jdapimin.c).
    pub(super) fn space(&self, frame: &Frame) -> Space {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        match (ids.as_slice(), self.jfif, self.adobe) {
            ([_], ..) => Space::Grey,
            ([_, _, _, _], _, None | Some(0)) => Space::Cmyk,
            ([_, _, _, _], ..) => Space::Ycck,
            (_, true, _) => Space::YCbCr,
            (_, false, Some(0)) | (b"RGB", false, None) => Space::Rgb,
            _ => Space::YCbCr,
        }
    }
}

/// The size of a picture and its components.
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
}

/// One component of a picture.
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks of a coded unit in each direction: the sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) table: u8,
    /// The steps of quantisation at its first scan.
    pub(super) steps: Option<Steps>,
    /// Samples that belong to the picture.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks of a row, padded to whole coded units.
    pub(super) blocks_across: usize,
    pub(super) blocks_down: usize,
    /// Coefficients of each block in the order of its rows; only a progressive picture keeps them.
    pub(super) coefficients: Vec<[i16; BLOCK]>,
    /// Rows of decoded samples, `blocks_across * SIDE` each.
    pub(super) samples: Vec<u8>,
    /// For each coefficient in the order of the file, how many of its lowest bits are still to come.
    pub(super) bits_to_come: [Option<u8>; BLOCK],
}

impl Frame {
    pub(super) fn read(marker: u8, segment: &[u8]) -> Result<Self> {
        let unsupported = |feature: &str| Error::ImageUnsupported { format: FORMAT, feature: feature.into() };
        match marker {
            0xC0..=0xC2 => {}
            0xC3 => return Err(unsupported("lossless coding")),
            0xC9..=0xCB => return Err(unsupported("arithmetic coding")),
            _ => return Err(unsupported("hierarchical coding")),
        }
        let cut = || invalid("a frame header breaks the standard");
        let [precision, h0, h1, w0, w1, count] = *segment.first_chunk().ok_or_else(cut)?;
        if precision != 8 {
            return Err(unsupported(&format!("samples of {precision} bits")));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(unsupported(&format!("{count} colour components")));
        }
        let (height, width) = (usize::from(u16::from_be_bytes([h0, h1])), usize::from(u16::from_be_bytes([w0, w1])));
        let specs = segment.get(6..6 + 3 * usize::from(count)).ok_or_else(cut)?;
        let components: Vec<_> = specs.chunks_exact(3).map(Component::new).collect();
        let frame = Self { progressive: marker == 0xC2, width, height, components };
        let (most_across, most_down) = frame.most();
        for (i, component) in frame.components.iter().enumerate() {
            let factors = [component.across, component.down];
            if factors.iter().any(|factor| !(1..=4).contains(factor))
                || frame.components[..i].iter().any(|other| other.id == component.id)
            {
                return Err(cut());
            }
            if most_across % component.across != 0 || most_down % component.down != 0 {
                return Err(unsupported("sampling factors whose ratio is not whole"));
            }
        }
        Ok(frame)
    }

    /// The largest sampling factors.
    pub(super) fn most(&self) -> (usize, usize) {
        let most = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1).max(1);
        (most(|component| component.across), most(|component| component.down))
    }

    /// Coded units of a scan with all components, in each direction.
    pub(super) fn units(&self) -> (usize, usize) {
        let (across, down) = self.most();
        (self.width.div_ceil(SIDE * across), self.height.div_ceil(SIDE * down))
    }

    pub(super) fn plane_bytes(&self) -> u64 {
        let (across, down) = self.units();
        let blocks: usize = self.components.iter().map(|component| component.across * component.down).sum();
        (across * down) as u64 * (blocks * BLOCK) as u64
    }

    /// Makes room for samples, and for coefficients where scans refine them.
    pub(super) fn allocate(&mut self) {
        /// Mid-grey: what a block without coefficients shows.
        const GREY: u8 = 128;
        let (most_across, most_down) = self.most();
        let (units_across, units_down) = self.units();
        for component in &mut self.components {
            component.width = (self.width * component.across).div_ceil(most_across);
            component.height = (self.height * component.down).div_ceil(most_down);
            component.blocks_across = units_across * component.across;
            component.blocks_down = units_down * component.down;
            let blocks = component.blocks_across * component.blocks_down;
            if self.progressive {
                component.coefficients = vec![[0; BLOCK]; blocks];
            } else {
                component.samples = vec![GREY; blocks * BLOCK];
            }
        }
    }

    /// Samples of a progressive picture from its coefficients; those of a sequential one are there already.
    pub(super) fn render(&mut self) {
        for component in self.components.iter_mut().filter(|_| self.progressive) {
            idct::render(component);
        }
    }

    /// What no scan has brought.
    pub(super) fn missing(&self) -> Option<Damage> {
        let bits = |component: &Component| component.bits_to_come;
        if self.components.iter().any(|component| bits(component)[0].is_none()) {
            return Some(Damage::Components);
        }
        let whole = self.components.iter().all(|component| bits(component).iter().all(|&bits| bits == Some(0)));
        (!whole).then_some(Damage::Refinements)
    }
}

impl Component {
    fn new(spec: &[u8]) -> Self {
        Self {
            id: spec[0],
            across: usize::from(spec[1] >> 4),
            down: usize::from(spec[1] & 15),
            table: spec[2],
            steps: None,
            width: 0,
            height: 0,
            blocks_across: 0,
            blocks_down: 0,
            coefficients: Vec::new(),
            samples: Vec::new(),
            bits_to_come: [None; BLOCK],
        }
    }

    /// Samples from one row of blocks to the next sample row.
    pub(super) fn stride(&self) -> usize {
        self.blocks_across * SIDE
    }

    /// A row of samples of the picture.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride()..][..self.width]
    }
}
