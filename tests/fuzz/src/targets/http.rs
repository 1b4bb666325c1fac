//! Requests as they come over HTTP/1.1: method and target, headers, body; read by the node's border, then asked of a whole service as root.
//!
//! Nothing panics, nothing is an internal error, and an answer is a refusal or an outcome.

use super::lines;
use super::request::World;
use crate::driver::Subject;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let requests = lines(include_str!("../../../corpora/requests.txt")).map(|line| line.replace("\\n", "\n").into_bytes());
    let paths = lines(include_str!("../../../corpora/paths-refused.txt")).map(|path| format!("GET {path}\n\n").into_bytes());
    let headers = lines(include_str!("../../../corpora/headers.txt")).filter_map(|line| line.splitn(3, '\t').nth(2));
    let headers =
        headers.map(|headers| format!("POST /v1/secret/data/app\n{}\n\n{{\"data\":{{}}}}", headers.replace(" | ", "\n")).into_bytes());
    let bodies = lines(include_str!("../../../corpora/json-bodies.txt")).map(|body| format!("PUT /v1/v1/app\n\n{body}").into_bytes());
    requests.chain(paths).chain(headers).chain(bodies).collect()
}

pub(super) fn subject() -> Box<Subject> {
    let mut world = World::new();
    Box::new(move |input| {
        if world.is_worn() {
            world = World::new();
        }
        let Some(head) = Head::of(input) else { return "no HTTP".into() };
        let mut request = match node::testing::read_request(&head.parts, head.body) {
            Ok(request) => request,
            Err(status) => return format!("status {}", char::from(b'a' + (status % 26) as u8)),
        };
        if request.token.is_none() {
            request.token = Some(crypto::SecretBytes::from(world.root_token.as_bytes().to_vec()));
        }
        let verb = request.verb;
        let area = request.path.segments().next().unwrap_or_default().chars().take(5).collect::<String>();
        match world.send(request) {
            Ok(()) => format!("{verb} {area} done"),
            Err(refusal) => format!("{verb} {}", refusal.to_string().chars().take(24).collect::<String>()),
        }
    })
}

/// A request's first line and headers, and what follows the first empty line.
struct Head<'a> {
    parts: ::http::request::Parts,
    body: &'a [u8],
}

impl Head<'_> {
    fn of(input: &[u8]) -> Option<Head<'_>> {
        let (head, body) = match input.windows(2).position(|window| window == b"\n\n") {
            Some(at) => (&input[..at], &input[at + 2..]),
            None => (input, &[][..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
        let mut request = ::http::Request::builder().method(words.next()?).uri(words.next()?);
        for line in lines {
            let at = line.iter().position(|byte| *byte == b':')?;
            request = request.header(&line[..at], line[at + 1..].trim_ascii());
        }
        let (parts, ()) = request.body(()).ok()?.into_parts();
        Some(Head { parts, body })
    }
}
