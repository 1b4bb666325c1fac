//! Files of the journal, as somebody may have left them.

use storage::journal::{End, LineHash, Verifier, check};

use crate::driver::Subject;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let whole = include_bytes!("../../../golden/storage/journal-v1.jsonl");
    let next = include_bytes!("../../../golden/storage/journal-next-v1.jsonl");
    let broken = include_bytes!("../../../golden/storage/journal-broken-v1.jsonl");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    vec![
        whole.to_vec(),
        next.to_vec(),
        broken.to_vec(),
        lines[0].to_vec(),
        [lines[0], lines[2]].concat(),
        [&whole[..], br#"{"v":1,"sequ"#].concat(),
        [&whole[..], &next[..]].concat(),
        br#"{"v":2,"format":"conclave journal"}"#.to_vec(),
    ]
}

pub(super) fn subject() -> Box<Subject> {
    Box::new(|input| {
        let checked = check(input);
        let report = Verifier::new().file(input);
        assert_eq!((report.lines.len(), report.head), (checked.lines.len(), checked.head));
        assert!(checked.lines.windows(2).all(|pair| pair[0].sequence + 1 == pair[1].sequence), "entries are consecutive");
        // What was read is the beginning of the input, line by line, and each line is what its hash says.
        let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
        for (line, bytes) in checked.lines.iter().zip(lines.iter().skip(1)) {
            assert_eq!(line.hash, LineHash::of(bytes));
        }
        match checked.end {
            End::Whole => {
                assert!(input.ends_with(b"\n") && checked.header.is_some() && lines.len() == checked.lines.len() + 2);
                "whole".to_owned()
            }
            End::Torn { offset } => {
                assert!(offset > 0 && input[offset - 1] == b'\n' && offset < input.len());
                // Without its torn end it is whole.
                assert_eq!(check(&input[..offset]).end, End::Whole);
                "torn".to_owned()
            }
            End::Broken(broken) => {
                assert!(broken.line >= 1 && broken.line <= lines.len() as u64);
                // Hashes vary and make no other kind.
                broken.to_string().chars().filter(|letter| !letter.is_ascii_hexdigit()).collect()
            }
        }
    })
}
