//! Reads the published test vectors in `crates/crypto/vectors`: one case a line, fields divided by spaces, `#` before a remark.

/// The cases of `text`, each with `N` fields after its number and its verdict.
pub(crate) fn cases<const N: usize>(text: &'static str) -> Vec<Case<N>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(Case::read).collect()
}

/// One published case.
pub(crate) struct Case<const N: usize> {
    pub(crate) number: &'static str,
    pub(crate) valid: bool,
    pub(crate) fields: [Vec<u8>; N],
}

impl<const N: usize> Case<N> {
    fn read(line: &'static str) -> Case<N> {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, verdict, fields @ ..] = &*words else { panic!("a short line: {line}") };
        let fields: Vec<Vec<u8>> = fields.iter().map(|field| hex::decode(field.trim_matches('-')).expect("hex")).collect();
        let valid = match *verdict {
            "valid" => true,
            "invalid" => false,
            other => panic!("an unknown verdict: {other}"),
        };
        Case { number, valid, fields: fields.try_into().expect("as many fields as the file's head says") }
    }
}
