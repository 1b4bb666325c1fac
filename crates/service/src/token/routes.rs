//! `auth/token/…`: what may be asked, as one table.

use engine::route::{Access, Field, FieldKind, Method, Route};
use types::capability::Verb;

use super::{create, renew, revoke, roles, show};
use crate::backend::Handler;

const TOKEN: Field = Field::required("token", FieldKind::Text, "The token. In the body only: a URL is kept in too many places.");
const TOKEN_OR_OWN: Field = Field::optional("token", FieldKind::Text, "The token. Without it, the caller's own.");
const ACCESSOR: Field = Field::required("accessor", FieldKind::Text, "The token's accessor.");
const INCREMENT: Field = Field::optional(
    "increment",
    FieldKind::Duration,
    "How long the token is to live from now on, within its bounds. Without it, as long as it was given last. A periodic token always gets its period.",
);
const ROLE: &[Field] = &[Field::required("name", FieldKind::Text, "The role's name.")];

/// Of a token that is made on purpose.
const CREATE: &[Field] = &[
    Field::optional("id", FieldKind::Text, "The token's text, in place of a drawn one. Needs root or sudo."),
    Field::optional(
        "policies",
        FieldKind::List,
        "Its policies. Without them, those of the caller. Only root or sudo may give what the caller has not.",
    ),
    Field::optional("meta", FieldKind::Map, "Names with texts, shown with the token and kept in the audit log."),
    Field::optional("no_parent", FieldKind::Boolean, "Makes an orphan, which does not end with the caller's token. Needs root or sudo."),
    Field::optional("no_default_policy", FieldKind::Boolean, "Leaves the policy default out."),
    Field::optional("renewable", FieldKind::Boolean, "Whether it may be renewed. True without it."),
    Field::optional("ttl", FieldKind::Duration, "How long it lives. Without it, the mount's default."),
    Field::optional("lease", FieldKind::Duration, "The old name of ttl."),
    Field::optional("explicit_max_ttl", FieldKind::Duration, "How long it lives at most, however often it is renewed."),
    Field::optional(
        "period",
        FieldKind::Duration,
        "Makes it periodic: each renewal gives so much, without an end to the renewals. Needs root or sudo.",
    ),
    Field::optional("num_uses", FieldKind::Integer, "How often it may be used. 0: as often as one likes."),
    Field::optional("display_name", FieldKind::Text, "For people. Shown after token-, without special characters."),
    Field::optional("type", FieldKind::Text, "service, which has a record, or batch, which has none and cannot be renewed or revoked."),
    Field::optional("entity_alias", FieldKind::Text, "Not available yet: leave it out."),
];

const WRITE_ROLE: &[Field] = &[
    Field::optional("allowed_policies", FieldKind::List, "The policies that its tokens may have. None: those that their maker may give."),
    Field::optional("disallowed_policies", FieldKind::List, "Policies that its tokens must not have."),
    Field::optional("allowed_policies_glob", FieldKind::List, "As allowed_policies; a star stands for any text."),
    Field::optional("disallowed_policies_glob", FieldKind::List, "As disallowed_policies; a star stands for any text."),
    Field::optional("orphan", FieldKind::Boolean, "Whether its tokens are orphans."),
    Field::optional("renewable", FieldKind::Boolean, "Whether its tokens may be renewed. True without it."),
    Field::optional("token_period", FieldKind::Duration, "Makes its tokens periodic. 0: they are not."),
    Field::optional("period", FieldKind::Duration, "The old name of token_period."),
    Field::optional("token_explicit_max_ttl", FieldKind::Duration, "How long its tokens live at most. 0: no such bound."),
    Field::optional("explicit_max_ttl", FieldKind::Duration, "The old name of token_explicit_max_ttl."),
    Field::optional("token_bound_cidrs", FieldKind::List, "CIDR blocks from which its tokens may be used. None: from everywhere."),
    Field::optional("bound_cidrs", FieldKind::List, "The old name of token_bound_cidrs."),
    Field::optional(
        "token_no_default_policy",
        FieldKind::Boolean,
        "Leaves the policy default out, where the role has policies of its own.",
    ),
    Field::optional("token_num_uses", FieldKind::Integer, "How often its tokens may be used. 0: as often as one likes."),
    Field::optional(
        "token_type",
        FieldKind::Text,
        "default-service or default-batch, which the maker may override, or service or batch. default-service without it.",
    ),
    Field::optional("path_suffix", FieldKind::Text, "Continues the path of its tokens and of their leases, to revoke them by that prefix."),
    Field::optional("allowed_entity_aliases", FieldKind::List, "Kept for identities, which are not available yet."),
];

const fn write(summary: &'static str, fields: &'static [Field], handler: Handler) -> Method<Handler> {
    Method { verb: Verb::Write, summary, fields, query: &[], handler }
}

const fn read(summary: &'static str, handler: Handler) -> Method<Handler> {
    Method { verb: Verb::Read, summary, fields: &[], query: &[], handler }
}

const fn list(summary: &'static str, handler: Handler) -> Method<Handler> {
    Method { verb: Verb::List, summary, fields: &[], query: &[], handler }
}

const fn delete(summary: &'static str, handler: Handler) -> Method<Handler> {
    Method { verb: Verb::Delete, summary, fields: &[], query: &[], handler }
}

const fn route(
    pattern: &'static str,
    about: &'static str,
    parameters: &'static [Field],
    methods: &'static [Method<Handler>],
    access: Access,
) -> Route<Handler> {
    Route { pattern, about, parameters, methods, access }
}

/// What may be asked below `auth/token/`.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    route("create", "New tokens.", &[], &[write("Makes a child of the caller's token.", CREATE, create::child)], Access::Token),
    route("create-orphan", "New tokens without a parent.", &[], &[write("Makes an orphan.", CREATE, create::orphan)], Access::Token),
    route(
        "create/{role_name}",
        "New tokens of a role.",
        &[Field::required("role_name", FieldKind::Text, "The role.")],
        &[write("Makes a token as the role says.", CREATE, create::by_role_name)],
        Access::Token,
    ),
    route(
        "lookup",
        "What is known of a token.",
        &[],
        &[write("Shows the token.", &[TOKEN_OR_OWN], show::lookup), read("Shows the caller's own token.", show::own)],
        Access::Token,
    ),
    route(
        "lookup-self",
        "What is known of the caller's own token.",
        &[],
        &[read("Shows the caller's token.", show::own), write("Shows the caller's token.", &[], show::own)],
        Access::Token,
    ),
    route(
        "lookup-accessor",
        "What is known of the token of an accessor.",
        &[],
        &[write("Shows the token, without its text.", &[ACCESSOR], show::lookup_accessor)],
        Access::Token,
    ),
    route("renew", "A later end for a token.", &[], &[write("Renews the token.", &[TOKEN, INCREMENT], renew::by_text)], Access::Token),
    route(
        "renew-self",
        "A later end for the caller's own token.",
        &[],
        &[write("Renews the caller's token.", &[INCREMENT], renew::own)],
        Access::Token,
    ),
    route(
        "renew-accessor",
        "A later end for the token of an accessor.",
        &[],
        &[write("Renews the token, without telling its text.", &[ACCESSOR, INCREMENT], renew::by_accessor)],
        Access::Token,
    ),
    route("revoke", "The end of a token.", &[], &[write("Revokes the token and its children.", &[TOKEN], revoke::by_text)], Access::Token),
    route(
        "revoke-self",
        "The end of the caller's own token.",
        &[],
        &[write("Revokes the caller's token and its children.", &[], revoke::own)],
        Access::Token,
    ),
    route(
        "revoke-accessor",
        "The end of the token of an accessor.",
        &[],
        &[write("Revokes the token and its children.", &[ACCESSOR], revoke::by_accessor)],
        Access::Token,
    ),
    route(
        "revoke-orphan",
        "The end of a token, but not of its children.",
        &[],
        &[write(
            "Revokes the token; its service tokens live on as orphans, its batch tokens end. Needs root or sudo.",
            &[TOKEN],
            revoke::leaving_children,
        )],
        Access::Token,
    ),
    route("accessors", "Accessors of all tokens.", &[], &[list("Lists them.", show::accessors)], Access::Sudo),
    route("roles", "Roles: what the tokens made with one may be.", &[], &[list("Lists their names.", roles::list)], Access::Token),
    route(
        "roles/{name}",
        "A role: what the tokens made with it may be.",
        ROLE,
        &[
            read("Shows the role.", roles::show),
            write("Makes the role, or changes what is given.", WRITE_ROLE, roles::write),
            delete("Deletes the role. Its tokens live on, and cannot be renewed.", roles::delete),
        ],
        Access::Token,
    ),
    route(
        "tidy",
        "What is left of tokens that have ended.",
        &[],
        &[write("Looks for such records, and removes them.", &[], show::tidy)],
        Access::Sudo,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }
}
