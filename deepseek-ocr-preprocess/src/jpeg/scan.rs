//! One scan: the coefficients of one or more components, whole or by bits.

use super::{
    Damage,
    entropy::{Bits, Code},
    header::{BLOCK, Component, Frame, Tables, ZIGZAG},
    idct,
};

/// The most bytes behind the coded units that mean nothing: some cameras write a few too many. After damage a whole coded unit is left.
const MOST_SURPLUS: usize = 8;

/// How a scan ended.
pub(super) struct End {
    /// Bytes of entropy-coded data, up to the next marker but for padding.
    pub(super) length: usize,
    pub(super) damage: Option<Damage>,
}

/// Reads a scan into the components of `frame`: `header` is its segment, `data` what follows.
pub(super) fn read(frame: &mut Frame, tables: &Tables, header: &[u8], data: &[u8]) -> Result<End, &'static str> {
    let mut scan = Scan::new(frame, tables, header)?;
    let (units_across, units_down) = scan.units(frame);
    let expected = units_across * units_down;
    let mut bits = Bits::new(data);
    let (mut present, mut unit, mut surplus) = (0, 0, 0);
    while unit < expected {
        let interval = if tables.restart_interval == 0 { expected } else { tables.restart_interval };
        let end = (unit + interval).min(expected);
        scan.reset();
        while unit < end && scan.unit(frame, &mut bits, unit % units_across, unit / units_across).is_some() {
            (unit, present) = (unit + 1, present + 1);
        }
        if unit == end {
            surplus = surplus.max(bits.surplus());
        }
        if end == expected && unit == end {
            break;
        }
        match next_interval(&mut bits, end / interval) {
            Some(interval_index) => unit = interval_index.saturating_mul(interval),
            None => break,
        }
    }
    let (present, expected) = (present as u64, expected as u64);
    let damage = match () {
        () if present < expected => Some(Damage::Units { present, expected }),
        () if bits.broken => Some(Damage::Codes),
        () if surplus > MOST_SURPLUS => Some(Damage::Surplus(surplus)),
        () => None,
    };
    Ok(End { length: bits.position(), damage })
}

/// Goes on behind the next restart marker that can be meant, and says which interval begins there; `next` should.
fn next_interval(bits: &mut Bits<'_>, next: usize) -> Option<usize> {
    /// A marker that seems further ahead than this is taken for one that is behind.
    const AHEAD: usize = 5;
    loop {
        // The marker in front of interval n has the number n - 1, of 3 bits.
        let skipped = (usize::from(bits.restart()?) + 8 - (next - 1) % 8) % 8;
        if skipped <= AHEAD {
            return Some(next + skipped);
        }
    }
}

/// What a scan's header says, and what carries over from block to block.
struct Scan {
    members: Vec<Member>,
    /// First and last coefficient in the order of the file.
    band: (usize, usize),
    /// The bit below which nothing is sent yet.
    low: u8,
    part: Part,
    /// Blocks whose band is known to hold no new coefficients.
    blocks_to_skip: u32,
}

/// Which part of the coefficients a scan brings.
#[derive(Clone, Copy)]
enum Part {
    /// All of them, of a sequential picture.
    Whole,
    DcFirst,
    DcBit,
    AcFirst,
    AcBit,
}

struct Member {
    component: usize,
    dc: Option<Code>,
    ac: Option<Code>,
    prediction: i32,
}

impl Scan {
    fn new(frame: &mut Frame, tables: &Tables, header: &[u8]) -> Result<Self, &'static str> {
        const BROKEN: &str = "a scan header breaks the standard";
        let count = usize::from(*header.first().ok_or(BROKEN)?);
        let specs = header.get(1..1 + 2 * count).ok_or(BROKEN)?;
        let [first, last, bits] = *header.get(1 + 2 * count..).and_then(|rest| rest.first_chunk()).ok_or(BROKEN)?;
        let (first, last, high, low) = (usize::from(first), usize::from(last), bits >> 4, bits & 15);
        let (band, low, part) = match (frame.progressive, first) {
            (false, _) => ((0, BLOCK - 1), 0, Part::Whole),
            (true, 0) if last == 0 => ((0, 0), low, if high == 0 { Part::DcFirst } else { Part::DcBit }),
            (true, 1..BLOCK) if (first..BLOCK).contains(&last) && count == 1 => {
                ((first, last), low, if high == 0 { Part::AcFirst } else { Part::AcBit })
            }
            _ => return Err(BROKEN),
        };
        // Bits come one at a time from the highest; a coefficient has 14.
        if low > 13 || (frame.progressive && high != 0 && high != low + 1) {
            return Err(BROKEN);
        }
        let mut members: Vec<Member> = Vec::with_capacity(count);
        for spec in specs.chunks_exact(2) {
            let component = frame.components.iter().position(|component| component.id == spec[0]).ok_or(BROKEN)?;
            if members.iter().any(|member| member.component == component) {
                return Err(BROKEN);
            }
            let code = |kind: usize, table: u8| tables.codes[kind].get(usize::from(table)).cloned().flatten();
            let (dc, ac) = (code(0, spec[1] >> 4), code(1, spec[1] & 15));
            let lacks = match part {
                Part::Whole => dc.is_none() || ac.is_none(),
                Part::DcFirst => dc.is_none(),
                Part::DcBit => false,
                Part::AcFirst | Part::AcBit => ac.is_none(),
            };
            if lacks {
                return Err("a scan lacks its table of codes");
            }
            frame.components[component].begin(tables, band, high, low)?;
            members.push(Member { component, dc, ac, prediction: 0 });
        }
        if members.is_empty() {
            return Err(BROKEN);
        }
        Ok(Self { members, band, low, part, blocks_to_skip: 0 })
    }

    /// Coded units in each direction: blocks of the one component, or groups of blocks of several.
    fn units(&self, frame: &Frame) -> (usize, usize) {
        match self.members.as_slice() {
            [one] => frame.components[one.component].blocks(),
            _ => frame.units(),
        }
    }

    fn reset(&mut self) {
        self.blocks_to_skip = 0;
        for member in &mut self.members {
            member.prediction = 0;
        }
    }

    /// Reads the coded unit in column `x` and row `y`; `None` where the data ends or breaks the code.
    fn unit(&mut self, frame: &mut Frame, bits: &mut Bits<'_>, x: usize, y: usize) -> Option<()> {
        let alone = self.members.len() == 1;
        for i in 0..self.members.len() {
            let component = &mut frame.components[self.members[i].component];
            let (across, down) = if alone { (1, 1) } else { (component.across, component.down) };
            for row in 0..down {
                for column in 0..across {
                    self.block(i, component, bits, x * across + column, y * down + row)?;
                }
            }
        }
        Some(())
    }

    fn block(
        &mut self,
        member: usize,
        component: &mut Component,
        bits: &mut Bits<'_>,
        x: usize,
        y: usize,
    ) -> Option<()> {
        let Self { members, band, low, part, blocks_to_skip } = self;
        let Member { dc, ac, prediction, .. } = &mut members[member];
        if let Part::Whole = part {
            let mut block = [0; BLOCK];
            whole(&mut block, bits, dc.as_ref()?, ac.as_ref()?, prediction)?;
            let (stride, steps) = (component.stride(), component.steps.as_ref()?);
            let at = (y * stride + x) * 8;
            idct::block(&block, steps, &mut component.samples[at..], stride);
            return Some(());
        }
        let block = &mut component.coefficients[y * component.blocks_across + x];
        match part {
            Part::DcFirst => {
                *prediction =
                    prediction.wrapping_add(bits.symbol(dc.as_ref()?).and_then(|size| dc_difference(bits, size))?);
                block[0] = (*prediction << *low) as i16;
            }
            Part::DcBit => block[0] |= (bits.take(1)? << *low) as i16,
            Part::AcFirst => ac_first(block, bits, ac.as_ref()?, *band, *low, blocks_to_skip)?,
            _ => ac_bit(block, bits, ac.as_ref()?, *band, *low, blocks_to_skip)?,
        }
        Some(())
    }
}

impl Component {
    /// Notes what a scan will bring, and keeps the steps of quantisation that stand at the first.
    fn begin(&mut self, tables: &Tables, (first, last): (usize, usize), high: u8, low: u8) -> Result<(), &'static str> {
        if self.steps.is_none() {
            let steps = tables.steps.get(usize::from(self.table)).copied().flatten();
            self.steps = Some(steps.ok_or("a component lacks its table of quantisation")?);
        }
        // A bit that does not follow on those before it, because their scan is missing, completes nothing.
        let follow = |bits: &&mut Option<u8>| high == 0 || **bits == Some(high);
        self.bits_to_come[first..=last].iter_mut().filter(follow).for_each(|bits| *bits = Some(low));
        Ok(())
    }

    /// Blocks that a scan of this component alone has, in each direction: those that hold samples of the picture.
    fn blocks(&self) -> (usize, usize) {
        (self.width.div_ceil(8), self.height.div_ceil(8))
    }
}

/// The difference between two DC coefficients (T.81, F.2.2.1).
fn dc_difference(bits: &mut Bits<'_>, size: u8) -> Option<i32> {
    /// Of 8-bit samples the largest is 11; what 16 bits hold is read, as libjpeg does.
    const MAX: u8 = 15;
    if size > MAX { None } else { bits.signed(size) }
}

/// All coefficients of a block (T.81, F.2.2).
fn whole(block: &mut [i16; BLOCK], bits: &mut Bits<'_>, dc: &Code, ac: &Code, prediction: &mut i32) -> Option<()> {
    let size = bits.symbol(dc)?;
    *prediction = prediction.wrapping_add(dc_difference(bits, size)?);
    block[0] = *prediction as i16;
    let mut k = 1;
    while k < BLOCK {
        let (run, size) = run_and_size(bits.symbol(ac)?);
        match (run, size) {
            (SIXTEEN_ZEROS, 0) => k += 16,
            (_, 0) => break,
            _ => {
                k += run;
                block[place(bits, k, BLOCK - 1)] = bits.signed(size)? as i16;
                k += 1;
            }
        }
    }
    Some(())
}

/// The first bits of a band of coefficients (T.81, G.1.2.2).
fn ac_first(
    block: &mut [i16; BLOCK],
    bits: &mut Bits<'_>,
    ac: &Code,
    (first, last): (usize, usize),
    low: u8,
    blocks_to_skip: &mut u32,
) -> Option<()> {
    if *blocks_to_skip > 0 {
        *blocks_to_skip -= 1;
        return Some(());
    }
    let mut k = first;
    while k <= last {
        let (run, size) = run_and_size(bits.symbol(ac)?);
        match (run, size) {
            (SIXTEEN_ZEROS, 0) => k += 16,
            (_, 0) => {
                *blocks_to_skip = (1 << run) - 1 + bits.take(run as u32)?;
                break;
            }
            _ => {
                k += run;
                block[place(bits, k, last)] = (bits.signed(size)? << low) as i16;
                k += 1;
            }
        }
    }
    Some(())
}

/// One more bit of a band of coefficients (T.81, G.1.2.3).
fn ac_bit(
    block: &mut [i16; BLOCK],
    bits: &mut Bits<'_>,
    ac: &Code,
    (first, last): (usize, usize),
    low: u8,
    blocks_to_skip: &mut u32,
) -> Option<()> {
    let bit = 1i16 << low;
    let mut k = first;
    while *blocks_to_skip == 0 && k <= last {
        let (run, size) = run_and_size(bits.symbol(ac)?);
        let value = match (run, size) {
            (SIXTEEN_ZEROS, 0) => 0,
            (_, 0) => {
                *blocks_to_skip = (1 << run) + bits.take(run as u32)?;
                break;
            }
            // A size other than 1 makes no sense here; libjpeg takes it for 1.
            _ if bits.take(1)? == 1 => bit,
            _ => -bit,
        };
        k = refine(block, bits, (k, last), bit, run)?;
        if value != 0 {
            block[place(bits, k, last)] = value;
        }
        k += 1;
    }
    if *blocks_to_skip > 0 {
        // The rest of the band has no new coefficients, but a bit for each that is there.
        refine(block, bits, (k, last), bit, BLOCK)?;
        *blocks_to_skip -= 1;
    }
    Some(())
}

/// Reads a bit for each coefficient that is there, up to the zero that follows `zeros` zeros; the position of that.
fn refine(
    block: &mut [i16; BLOCK],
    bits: &mut Bits<'_>,
    (first, last): (usize, usize),
    bit: i16,
    zeros: usize,
) -> Option<usize> {
    let mut zeros = zeros;
    for k in first..=last {
        let coefficient = &mut block[usize::from(ZIGZAG[k])];
        if *coefficient == 0 {
            if zeros == 0 {
                return Some(k);
            }
            zeros -= 1;
        } else if bits.take(1)? == 1 && *coefficient & bit == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient > 0 { bit } else { -bit });
        }
    }
    Some(last + 1)
}

/// Where coefficient `k` of a band up to `last` belongs. One behind the block spoils the last, as in libjpeg.
fn place(bits: &mut Bits<'_>, k: usize, last: usize) -> usize {
    bits.broken |= k > last;
    ZIGZAG.get(k).map_or(BLOCK - 1, |&at| at.into())
}

/// A run of 16 zeros, where the size is 0; other runs of size 0 end a block, or some.
const SIXTEEN_ZEROS: usize = 15;

/// The two halves of a symbol: how many zeros there are, and of how many bits the next coefficient is.
fn run_and_size(symbol: u8) -> (usize, u8) {
    (usize::from(symbol >> 4), symbol & 15)
}
