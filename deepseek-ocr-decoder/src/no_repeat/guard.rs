//! A repetition guard that is kept as tokens come: the work of a token does not grow with the tokens before it.

use super::NoRepeat;
use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
};

/// Knows at any time what [`NoRepeat::banned`] gives for the tokens so far.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Nothing where nothing is ever banned.
    memory: Option<Memory>,
}

#[derive(Debug)]
struct Memory {
    tokens: Vec<u32>,
    /// Only n-grams count that start among so many of the last tokens.
    window: usize,
    allowed: Vec<u32>,
    /// N-grams without their last token.
    prefixes: Runs,
    /// N-grams without their last two tokens; nothing where an n-gram has only one.
    openings: Option<Runs>,
}

/// The different runs of so many tokens in a sequence.
#[derive(Debug)]
struct Runs {
    length: usize,
    runs: Vec<Run>,
    /// Places in `runs` by the hash of the tokens, which are compared, too.
    by_hash: HashMap<u64, Vec<usize>>,
    /// The run at the end of the sequence.
    last: Option<usize>,
}

#[derive(Debug)]
struct Run {
    /// Where it began the last time, and the time before.
    start: usize,
    before: Option<usize>,
    /// The tokens that came behind it, and where it began then the last time.
    followers: BTreeMap<u32, usize>,
}

impl Guard {
    pub(crate) fn new(no_repeat: &NoRepeat, prompt: &[u32]) -> Self {
        let memory = match no_repeat {
            NoRepeat::Off | NoRepeat::Sequence { ngram: 0 } | NoRepeat::Window { ngram: 0 | 1, .. } => None,
            NoRepeat::Sequence { ngram } => {
                let mut memory = Memory::new(*ngram, usize::MAX, Vec::new());
                prompt.iter().for_each(|&token| memory.push(token));
                Some(memory)
            }
            NoRepeat::Window { ngram, window, allowed } => Some(Memory::new(*ngram, *window, allowed.clone())),
        };
        Self { memory }
    }

    /// Takes the next token of the answer.
    pub(crate) fn push(&mut self, token: u32) {
        self.memory.iter_mut().for_each(|memory| memory.push(token));
    }

    /// The banned tokens, ascending.
    pub(crate) fn banned(&self) -> Vec<u32> {
        let memory = self.memory.as_ref();
        let run = memory.and_then(|memory| Some((memory, memory.prefixes.end()?)));
        let banned = run.into_iter().flat_map(|(memory, run)| {
            run.followers.keys().copied().filter(move |token| !memory.allowed.contains(token))
        });
        banned.collect()
    }

    /// Whether nothing will be banned after one more token has followed, whichever it is: the tokens before it occur nowhere else.
    pub(crate) fn is_free_after_any(&self) -> bool {
        let Some(memory) = &self.memory else { return true };
        let Some(openings) = &memory.openings else { return false };
        // The token that follows is one of the window's.
        let from = memory.tokens.len().saturating_sub(memory.window.saturating_sub(1));
        openings.end().and_then(|run| run.before).is_none_or(|start| start < from)
    }
}

impl Memory {
    /// For n-grams of at least one token.
    fn new(ngram: usize, window: usize, allowed: Vec<u32>) -> Self {
        let openings = ngram.checked_sub(2).map(Runs::new);
        Self { tokens: Vec::new(), window, allowed, prefixes: Runs::new(ngram - 1), openings }
    }

    fn push(&mut self, token: u32) {
        self.prefixes.follow(token);
        self.tokens.push(token);
        self.prefixes.enter(&self.tokens);
        self.openings.iter_mut().for_each(|openings| openings.enter(&self.tokens));
        self.prefixes.forget_before(self.tokens.len().saturating_sub(self.window));
    }
}

impl Runs {
    /// Of an empty sequence.
    fn new(length: usize) -> Self {
        let mut runs = Self { length, runs: Vec::new(), by_hash: HashMap::new(), last: None };
        runs.enter(&[]);
        runs
    }

    fn end(&self) -> Option<&Run> {
        self.runs.get(self.last?)
    }

    /// Notes what comes behind the run at the end.
    fn follow(&mut self, token: u32) {
        if let Some(run) = self.last.and_then(|last| self.runs.get_mut(last)) {
            run.followers.insert(token, run.start);
        }
    }

    /// Takes the sequence with one more token.
    fn enter(&mut self, tokens: &[u32]) {
        let Some(start) = tokens.len().checked_sub(self.length) else { return };
        #[cfg(test)]
        crate::work::add(self.length);
        let at = |start: usize| &tokens[start..start + self.length];
        let same = self.by_hash.entry(self.by_hash.hasher().hash_one(at(start))).or_default();
        let known = same.iter().copied().find(|&run| at(self.runs[run].start) == at(start));
        let run = known.unwrap_or(self.runs.len());
        match known {
            Some(run) => {
                let run = &mut self.runs[run];
                (run.before, run.start) = (Some(run.start), start);
            }
            None => {
                same.push(run);
                self.runs.push(Run { start, before: None, followers: BTreeMap::new() });
            }
        }
        self.last = Some(run);
    }

    /// Forgets what came behind the run at the end when it began before `from`.
    fn forget_before(&mut self, from: usize) {
        if let Some(run) = self.last.and_then(|last| self.runs.get_mut(last)) {
            #[cfg(test)]
            crate::work::add(run.followers.len());
            run.followers.retain(|_, start| *start >= from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Token by token it knows what is found by looking at all tokens, and before the next token exactly where no token could
        /// lead to a ban.
        #[test]
        fn it_knows_what_all_tokens_together_tell(
            prompt in prop::collection::vec(0u32..4, 0..12),
            answer in prop::collection::vec(0u32..4, 0..40),
            (ngram, window) in (1usize..6, 1usize..50),
            allowed in prop::collection::vec(0u32..4, 0..3),
        ) {
            for no_repeat in [
                NoRepeat::Off,
                NoRepeat::Sequence { ngram },
                NoRepeat::Window { ngram, window, allowed: vec![] },
                NoRepeat::Window { ngram, window, allowed },
            ] {
                let mut guard = Guard::new(&no_repeat, &prompt);
                for length in 0..=answer.len() {
                    let so_far = &answer[..length];
                    prop_assert_eq!(guard.banned(), no_repeat.banned(&prompt, so_far), "{:?}", no_repeat);
                    let free = |next: u32| no_repeat.banned(&prompt, &[so_far, &[next]].concat()).is_empty();
                    let all_free = (0..4).all(free);
                    match &no_repeat {
                        // Allowed tokens are not looked at: a guard may be called bound that is free, never the other way round.
                        NoRepeat::Window { allowed, .. } if !allowed.is_empty() => {
                            prop_assert!(all_free || !guard.is_free_after_any());
                        }
                        // A token that follows is banned itself from then on.
                        NoRepeat::Sequence { ngram: 1 } => prop_assert!(!guard.is_free_after_any()),
                        _ => prop_assert_eq!(guard.is_free_after_any(), all_free, "{:?}", no_repeat),
                    }
                    answer.get(length).into_iter().for_each(|&token| guard.push(token));
                }
            }
        }
    }

    #[test]
    fn the_work_grows_with_the_tokens_and_no_faster() {
        let window = |window: usize| NoRepeat::Window { ngram: 20, window, allowed: vec![3] };
        for no_repeat in
            [NoRepeat::Sequence { ngram: 20 }, NoRepeat::Sequence { ngram: 2 }, window(90), window(100_000)]
        {
            // Vision tokens, which are all the same; a text with one common word; and a period.
            for text in [|_| 7u32, |at: u32| if at.is_multiple_of(2) { 5 } else { at % 50 }, |at: u32| at % 64] {
                let work = |count: u32| {
                    let prompt: Vec<u32> = (0..count).map(text).collect();
                    crate::work::of(|| {
                        let mut guard = Guard::new(&no_repeat, &prompt);
                        (0..count).map(text).for_each(|token| guard.push(token));
                    })
                };
                let (few, many) = (work(1000), work(8000));
                assert!(few >= 1000 && many <= 9 * few, "{no_repeat:?}: {few}, then {many}");
            }
        }
    }
}
