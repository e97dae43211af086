//! The loop: guard, choose, stop, step. It holds the state of a batch; the weights stay in the [`Decoder`].

mod options;
mod row;

pub use options::{GenerateOptions, LoopStop};

#[cfg(feature = "_cube")]
use crate::sampling::Sampler;
use crate::{Cache, Decoder, Prompt, ops, sampling::Choice};
use burn::tensor::{DType, Int, Tensor, TensorData, kind::Basic};
use deepseek_ocr_core::{Error, Result};
use row::Row;

/// Why a row's number can name none.
const ABSENT: &str = "the row has left the batch";

/// Why a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended the text itself.
    Stop,
    /// The token limit or the end of the context was reached: the text may be cut off.
    Length,
    /// The text went round in circles, or the repetition guard left no token to choose.
    Repetition,
    /// The row was cancelled.
    Cancelled,
    /// The model or the device failed.
    Failed,
}

impl std::fmt::Display for Finish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Repetition => "repetition",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        })
    }
}

/// A generated token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// The row of the batch.
    pub row: usize,
    /// The token's id.
    pub id: u32,
    /// What the model gave it, before bans and temperature.
    pub probability: f32,
}

/// What a call gave to one row.
#[derive(Debug)]
pub struct Outcome {
    /// The row of the batch.
    pub row: usize,
    /// Its next token; nothing if it ended without one.
    pub token: Result<Option<Token>>,
}

/// What a row wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Their probabilities.
    pub probabilities: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// The state of a batch of rows while they are generated. Rows [`join`](Self::join) and [`leave`](Self::leave) between the
/// calls of [`advance`](Self::advance). On a GPU a call also starts what the next one will need, where it can.
///
/// A row's tokens do not depend on the rest of the batch: they are those that it would get alone. A row that ends gives its
/// part of the cache back at once.
#[derive(Debug)]
pub struct Generation {
    /// A row that left makes its place free for the next.
    rows: Vec<Option<Row>>,
    cache: Cache,
    /// The logits of a step that was queued ahead, `[rows, vocab]`; rows know their places in it.
    queued: Option<Tensor<2>>,
    /// Whether steps are queued ahead: a device that computes beside the host need not wait for it then.
    queues: bool,
}

/// Logits of some rows.
struct Pass {
    rows: Vec<usize>,
    /// `[rows, vocab]`.
    logits: Tensor<2>,
    /// Tokens that each row may not choose.
    banned: Vec<Vec<u32>>,
}

impl Generation {
    /// Prepares a batch; nothing is computed but the embeddings.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn new(decoder: &Decoder, rows: Vec<(Prompt, GenerateOptions)>) -> Result<Self> {
        let mut generation = Self::empty(decoder);
        for (prompt, options) in rows {
            generation.join(decoder, &prompt, options)?;
        }
        Ok(generation)
    }

    /// A batch without rows.
    pub fn empty(decoder: &Decoder) -> Self {
        let device = decoder.device();
        let cache = Cache::new(decoder.config(), 0, decoder.config().context, &device);
        Self { rows: Vec::new(), cache, queued: None, queues: ops::computes_beside_the_host(&device) }
    }

    /// Holds memory for so many blocks of cache at most, as [`Cache::with_most_blocks`].
    pub fn with_most_blocks(self, most_blocks: usize) -> Self {
        Self { cache: self.cache.with_most_blocks(most_blocks), ..self }
    }

    /// Adds a row and gives its number, the lowest that is free; the next call of [`advance`](Self::advance) reads its
    /// prompt.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an empty prompt, a token id outside the vocabulary or a setting out of range,
    /// [`Error::PromptTooLong`], [`Error::VisionTokensWidth`].
    pub fn join(&mut self, decoder: &Decoder, prompt: &Prompt, options: GenerateOptions) -> Result<usize> {
        let new = Some(Row::new(decoder, prompt, options)?);
        if let Some(row) = self.rows.iter().position(Option::is_none) {
            self.rows[row] = new;
            return Ok(row);
        }
        self.rows.push(new);
        Ok(self.cache.add_row())
    }

    /// Takes a row out of the batch with what it wrote; one that is not finished is cancelled.
    ///
    /// # Panics
    /// If no such row is there, as do all methods that take a row's number.
    pub fn leave(&mut self, row: usize) -> Answer {
        self.cancel(row);
        let Row { ids, probabilities, finish, .. } = self.rows[row].take().expect(ABSENT);
        Answer { ids, probabilities, finish: finish.unwrap_or(Finish::Cancelled) }
    }

    /// One more token for each row that is not finished; the first call after a row joined reads its prompt.
    ///
    /// A row that ends gives no token in that call, except one that ends because of its length or its repetition: it
    /// ends with its last token. Empty when all rows are finished.
    ///
    /// # Errors
    /// The first that [`advance_each`](Self::advance_each) gives; the tokens of the other rows are in [`ids`](Self::ids).
    pub fn advance(&mut self, decoder: &Decoder) -> Result<Vec<Token>> {
        self.advance_each(decoder).into_iter().filter_map(|outcome| outcome.token.transpose()).collect()
    }

    /// Like [`advance`](Self::advance), but a row that fails does not hide the others: an outcome for each row that was not
    /// finished.
    ///
    /// Errors are [`Error::NotFinite`] if the model computes NaN, and [`Error::Execution`] if the device fails. They end the
    /// row.
    pub fn advance_each(&mut self, decoder: &Decoder) -> Vec<Outcome> {
        let passes = self.compute(decoder);
        #[cfg(feature = "_cube")]
        if let Some(best) = best(&passes) {
            let ids = || best.clone().narrow(1, 0, 1).squeeze_dim::<1>(1).int();
            let numbers = ops::read_beside(&best, || self.queue(decoder, &passes, ids));
            return self.accept_best(&passes, numbers);
        }
        self.queue(decoder, &passes, || {
            Tensor::cat(passes.iter().map(|pass| pass.logits.clone().argmax(1).squeeze_dim(1)).collect(), 0)
        });
        passes.iter().flat_map(|pass| self.accept_logits(pass)).collect()
    }

    /// Prompts of rows that are new, and a step of the others, if it was not queued ahead; nothing is read.
    fn compute(&mut self, decoder: &Decoder) -> Vec<Pass> {
        let (mut passes, mut ids, mut running) = (Vec::new(), Vec::new(), Vec::new());
        let (mut places, mut ready) = (Vec::new(), Vec::new());
        let unfinished = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.finish.is_none());
        for row in (0..self.rows.len()).filter(|&row| unfinished(&self.rows[row])).collect::<Vec<_>>() {
            let state = self.row_mut(row);
            if let Some(inputs) = state.inputs.take() {
                let logits = decoder.prefill(inputs, &mut self.cache, row).unsqueeze();
                passes.push(self.pass(vec![row], logits));
            } else if let Some(place) = state.queued.take() {
                places.push(place);
                ready.push(row);
            } else {
                // A row that runs without inputs has chosen at least one token.
                ids.extend(state.ids.last());
                running.push(row);
            }
        }
        if let (Some(queued), false) = (self.queued.take(), ready.is_empty()) {
            passes.push(self.pass(ready, select(queued, &places)));
        }
        if !running.is_empty() {
            let logits = decoder.step(&ids, &running, &mut self.cache);
            passes.push(self.pass(running, logits));
        }
        passes
    }

    fn pass(&self, rows: Vec<usize>, logits: Tensor<2>) -> Pass {
        let banned = rows.iter().map(|&row| self.row(row).banned()).collect();
        Pass { rows, logits, banned }
    }

    /// Starts the next step with tokens that nobody has read, if each row will choose the best of all tokens then and now,
    /// whichever they are. What a row turns out not to need goes with its part of the cache.
    ///
    /// `best` gives the best token of each row of `passes`, or a negative number for a row that will end.
    fn queue(&mut self, decoder: &Decoder, passes: &[Pass], best: impl FnOnce() -> Tensor<1, Int>) {
        let rows: Vec<usize> = passes.iter().flat_map(|pass| pass.rows.iter().copied()).collect();
        let free = passes.iter().all(|pass| pass.banned.iter().all(Vec::is_empty));
        if !(self.queues && free && rows.iter().all(|&row| self.row(row).is_predictable())) {
            return;
        }
        let goes_on = |&(_, row): &(usize, usize)| !self.row(row).is_at_its_last();
        let (places, rows): (Vec<usize>, Vec<usize>) = rows.into_iter().enumerate().filter(goes_on).unzip();
        if rows.is_empty() {
            return;
        }
        let tokens = select(best(), &places).clamp_min(0);
        self.queued = Some(decoder.step_from(tokens, &rows, &mut self.cache));
        rows.into_iter().enumerate().for_each(|(place, row)| self.row_mut(row).queued = Some(place));
    }

    /// Chooses from logits on the host.
    fn accept_logits(&mut self, pass: &Pass) -> Vec<Outcome> {
        let logits = read(pass.logits.clone());
        let vocab = pass.logits.dims()[1];
        let accept = |(at, &row): (usize, &usize)| {
            let logits = logits.as_ref().map(|logits| &logits[at * vocab..(at + 1) * vocab]);
            let choice = logits.map_err(|reason| failed(reason));
            let choice = choice.and_then(|logits| self.row_mut(row).sampler.choose(logits, &pass.banned[at]));
            self.accept(row, choice)
        };
        pass.rows.iter().enumerate().map(accept).collect()
    }

    /// Takes what the device chose, `[rows, 2]` of all passes, and reads the logits of rows alone that sample.
    #[cfg(feature = "_cube")]
    fn accept_best(&mut self, passes: &[Pass], best: Result<Vec<f32>, String>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (pass, at, &row) in
            passes.iter().flat_map(|pass| pass.rows.iter().enumerate().map(move |(at, row)| (pass, at, row)))
        {
            if matches!(self.row(row).sampler, Sampler::Greedy) {
                let place = 2 * outcomes.len();
                let choice = best.as_ref().map_err(|reason| failed(reason));
                let choice = choice.and_then(|best| Choice::of_kernel(best[place], best[place + 1]));
                outcomes.push(self.accept(row, choice));
            } else {
                let logits = pass.logits.clone().narrow(0, at, 1);
                let banned = vec![pass.banned[at].clone()];
                outcomes.extend(self.accept_logits(&Pass { rows: vec![row], logits, banned }));
            }
        }
        outcomes
    }

    /// Ends a row that is not finished.
    pub fn cancel(&mut self, row: usize) {
        let state = self.row_mut(row);
        state.finish.get_or_insert(Finish::Cancelled);
        state.inputs = None;
        self.release(row);
    }

    /// Why a row ended, if it has.
    pub fn finish(&self, row: usize) -> Option<Finish> {
        self.row(row).finish
    }

    /// The tokens of a row so far.
    pub fn ids(&self, row: usize) -> &[u32] {
        &self.row(row).ids
    }

    /// The probabilities of a row's tokens.
    pub fn probabilities(&self, row: usize) -> &[f32] {
        &self.row(row).probabilities
    }

    /// Whether all rows are finished.
    pub fn is_finished(&self) -> bool {
        self.rows.iter().flatten().all(|row| row.finish.is_some())
    }

    /// Keys and values of all rows; on a GPU a row may have a step more there than tokens.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    fn accept(&mut self, row: usize, choice: Result<Option<Choice>>) -> Outcome {
        let state = self.row_mut(row);
        let token = choice.map(|choice| state.accept(row, choice));
        if token.is_err() {
            state.finish = Some(Finish::Failed);
        }
        if state.finish.is_some() {
            self.release(row);
        }
        Outcome { row, token }
    }

    /// Gives back what a row has that ended, its place in a step ahead included.
    fn release(&mut self, row: usize) {
        self.row_mut(row).queued = None;
        self.cache.truncate(row, 0);
        if self.rows.iter().flatten().all(|row| row.queued.is_none()) {
            self.queued = None;
        }
    }

    fn row(&self, row: usize) -> &Row {
        self.rows[row].as_ref().expect(ABSENT)
    }

    fn row_mut(&mut self, row: usize) -> &mut Row {
        self.rows[row].as_mut().expect(ABSENT)
    }
}

/// The best tokens of all passes where the logits are, `[rows, 2]`; nothing where the host reads them as easily.
#[cfg(feature = "_cube")]
fn best(passes: &[Pass]) -> Option<Tensor<2>> {
    let best: Vec<_> = passes.iter().map(|pass| ops::best(&pass.logits, &pass.banned)).collect::<Option<_>>()?;
    (!best.is_empty()).then(|| Tensor::cat(best, 0))
}

/// These rows of a tensor.
fn select<const D: usize, K: Basic>(tensor: Tensor<D, K>, rows: &[usize]) -> Tensor<D, K> {
    if rows.iter().copied().eq(0..tensor.dims()[0]) {
        return tensor;
    }
    let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let indices = Tensor::from_data(TensorData::new(indices, [rows.len()]), (&tensor.device(), DType::I32));
    tensor.select(0, indices)
}

/// Numbers to the host, or why they cannot be had.
fn read(numbers: Tensor<2>) -> Result<Vec<f32>, String> {
    let data = numbers.try_into_data().map_err(|e| e.to_string())?;
    data.convert_dtype(DType::F32).try_to_vec().map_err(|e| format!("{e:?}"))
}

fn failed(reason: &str) -> Error {
    Error::Execution { source: reason.to_owned().into() }
}

#[cfg(test)]
mod tests;
