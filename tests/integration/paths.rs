//! The suite on each path of the CPU's kernels: the best one is what all other tests run on, the rest take their turn here.

use deepseek_ocr_core::ops::flex::Isa;
use std::process::Command;

const VARIABLE: &str = "DEEPSEEK_OCR_ISA";

/// What is run on each path.
const TESTS: [&str; 2] = ["parity::", "quantized::held_out_pages_are_still_read"];

/// Makes the kernels run on the instruction set that the environment names.
pub fn force() {
    if let Ok(name) = std::env::var(VARIABLE) {
        let isa = Isa::ALL.into_iter().find(|isa| format!("{isa:?}") == name);
        isa.unwrap_or_else(|| panic!("{VARIABLE} is {name}, expected one of {:?}", Isa::ALL)).force();
        assert_eq!(format!("{:?}", Isa::best()), name);
        println!("on {name}");
    }
}

/// The choice holds for a process, so each path has one.
#[test]
fn parity_on_every_path() {
    let other_device = std::env::var("DEEPSEEK_OCR_DEVICE").is_ok_and(|device| device != "flex");
    if other_device || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available() && *isa != Isa::best()) {
        let name = format!("{isa:?}");
        let tests = std::env::current_exe().unwrap();
        let run = Command::new(tests).args(TESTS).arg("--nocapture").env(VARIABLE, &name).output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        println!("{said}");
        assert!(run.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&run.stderr));
        let count = said.matches(&format!("on {name}\n")).count();
        assert!(count >= TESTS.len(), "{count} of {TESTS:?} ran on {name}");
    }
}
