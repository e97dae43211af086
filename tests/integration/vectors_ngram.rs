//! The repetition guards against 120 cases of the official implementations.

use deepseek_ocr_decoder::NoRepeat;
use serde_json::Value;

#[test]
fn both_families_ban_what_the_official_guards_ban() {
    let cases: Value = serde_json::from_str(include_str!("../data/ngram.json")).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    };
    let sorted = |value: &Value| {
        let mut ids = ids(value);
        ids.sort_unstable();
        ids
    };
    let (mut compared, mut banned) = (0, [0, 0]);
    for (i, case) in cases.as_array().unwrap().iter().enumerate() {
        let (prompt, generated) = (ids(&case["prompt"]), ids(&case["generated"]));
        let number = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let (ngram, window) = (number("ngram"), number("window"));

        let found = NoRepeat::Sequence { ngram }.banned(&prompt, &generated);
        assert_eq!(found, sorted(&case["banned_hf_full_sequence"]), "case {i}, whole sequence");
        banned[0] += found.len();

        let guard = NoRepeat::Window { ngram, window, allowed: ids(&case["whitelist"]) };
        let found = guard.banned(&prompt, &generated);
        assert_eq!(found, sorted(&case["banned_vllm_window_generated_only"]), "case {i}, window");
        banned[1] += found.len();
        compared += 1;
    }
    assert_eq!(compared, 120);
    assert!(banned.iter().all(|&count| count > 10), "the cases ban hardly anything: {banned:?}");
}
