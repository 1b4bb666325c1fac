//! `sys/host-info`, `sys/metrics`, `sys/in-flight-req`, `sys/config/state/sanitized`, `sys/monitor`, `sys/version-history`, `sys/internal/specs/openapi`:
//! what the answering node tells of itself and of its API.

use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use futures::StreamExt as _;
use serde_json::json;
use types::capability::Verb;

use crate::backend::{self, Asked, Handler};
use crate::help;
use crate::node::{TraceFormat, TraceLevel};
use crate::outcome::{Operation, Outcome, PlanError, planned};
use crate::request::{Answer, Download, Pieces, Raw};

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "host-info",
        about: "The machine that the answering node runs on.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows processor, memory and disks.", fields: &[], query: &[], handler: host_info }],
        access: Access::Token,
    },
    Route {
        pattern: "metrics",
        about: "The answering node's metrics.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows all metrics.",
            fields: &[],
            query: &[Field::optional("format", FieldKind::Text, "prometheus; Vault's JSON when nothing is said.")],
            handler: metrics,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "in-flight-req",
        about: "Requests that the answering node is working on.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows them by id.", fields: &[], query: &[], handler: in_flight }],
        access: Access::Sudo,
    },
    Route {
        pattern: "config/state/sanitized",
        about: "The answering node's configuration.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows it without what is secret.",
            fields: &[],
            query: &[],
            handler: configuration,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "monitor",
        about: "The answering node's traces, as they come.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows them until the caller leaves, the node is sealed, or the time is over.",
            fields: &[],
            query: &[
                Field::optional("log_level", FieldKind::Text, "trace, debug, info, warn or error; info when nothing is said."),
                Field::optional("log_format", FieldKind::Text, "standard or json; standard when nothing is said."),
                Field::optional("duration", FieldKind::Duration, "For how long; without an end when nothing is said."),
            ],
            handler: monitor,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "internal/specs/openapi",
        about: "This API, described for programs (OpenAPI 3.0.3): every route of every mount of the namespace.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows the document.", fields: &[], query: &[], handler: openapi }],
        access: Access::Token,
    },
];

fn host_info(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&scope.node.host_info()))))
}

fn metrics(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let format = asked.ask.query("format").map(str::to_owned);
    Ok(planned(move |scope| {
        let accept = scope.request.headers.iter().find(|(name, _)| name == "accept").map(|(_, value)| value.as_str());
        let (content_type, text) = scope.node.metrics(format.as_deref(), accept).map_err(PlanError::Refused)?;
        Ok(Outcome::answer(Answer::Raw(Raw { content_type, body: text.into_bytes().into() })))
    }))
}

fn in_flight(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&scope.node.in_flight()))))
}

fn configuration(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&scope.node.configuration()))))
}

fn monitor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let invalid = |text: &str| AskError::Invalid(text.to_owned());
    let level = match asked.ask.query("log_level").unwrap_or("info") {
        "trace" => TraceLevel::Trace,
        "debug" => TraceLevel::Debug,
        "info" | "" => TraceLevel::Info,
        "warn" => TraceLevel::Warn,
        "error" => TraceLevel::Error,
        _ => return Err(invalid("unknown log level")),
    };
    let format = match asked.ask.query("log_format").unwrap_or("standard") {
        "standard" | "" => TraceFormat::Standard,
        "json" => TraceFormat::Json,
        _ => return Err(invalid("unknown log format")),
    };
    let duration = match asked.ask.query("duration") {
        None | Some("") => None,
        Some(text) => Some(types::duration::parse(text).map_err(|error| invalid(&format!("duration: {error}")))?),
    };
    Ok(planned(move |scope| {
        let traces = scope.node.follow_traces(level, format);
        let traces = traces.ok_or_else(|| PlanError::Refused("the traces cannot be followed: too many do already".into()))?;
        let body = match duration {
            Some(duration) => traces.take_until(tokio::time::sleep(duration)).boxed(),
            None => traces,
        };
        let download =
            Download { content_type: "text/plain; charset=utf-8".into(), file_name: "trace.log".into(), body: Pieces::new(body) };
        Ok(Outcome::answer(Answer::Stream(download)))
    }))
}

fn openapi(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let mounts = scope.records.mounts(&scope.namespace)?;
        let mounted = mounts.iter().filter_map(|mount| {
            let routes = backend::find(mount)?.outlines();
            Some(help::Part { mount_path: mount.path.clone(), kind: mount.kind.clone(), routes })
        });
        let own = help::Part { mount_path: String::new(), kind: "system".into(), routes: scope.node.routes() };
        let parts: Vec<help::Part> = std::iter::once(own).chain(mounted).collect();
        let document = help::openapi(&parts, &scope.node.version());
        // As Vault: not in an envelope.
        Ok(Outcome::answer(Answer::Raw(Raw {
            content_type: "application/json".into(),
            body: json!(document).to_string().into_bytes().into(),
        })))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }
}
