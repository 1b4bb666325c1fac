//! The method `approle`: roles for programs, which log in with a role id and a secret id.
//!
//! Always: secret ids are kept as keyed hashes only, below their role's own id: an accessor or a secret id of one role means nothing to
//! another, and all of them mean nothing once the role is gone. A secret id is over when its time is, whoever has or has not tidied; its
//! uses are spent in the batch that makes the token.
//!
//! | record of the mount | what |
//! |---|---|
//! | `role/<name>` | a role |
//! | `role-id/<tag>` | the name of the role that has this role id |
//! | `secret-id/<role's id>/<tag>` | a secret id |
//! | `accessor/<role's id>/<accessor>` | what an accessor stands for |
//! | `unlock/<tag>` | when a role id was unlocked |

mod login;
mod property;
mod role;
mod secret_id;
#[cfg(test)]
mod tests;
mod tidy;

pub(crate) use secret_id::accessor_told;

use barrier::{Name, Plan, ViewError};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::stored::{AppRole, Token, TokenParameters};
use types::Revision;
use types::capability::Verb;

use super::login::LoginName;
use super::token_parameters::{self, OldName, with_token_fields};
use super::{LIST_QUERY, read};
use crate::backend::{Asked, Handler};
use crate::mount::Mount;
use crate::outcome::{PlanError, Scope};
use crate::records::Records;

/// The longest role id, secret id or accessor, in bytes.
const ID_BYTES_MAX: usize = 1024;

/// Names of token parameters that older clients use.
const OLD_NAMES: &[OldName] = &[("policies", "token_policies"), ("period", "token_period")];

const ROLE: Field = Field::required("role_name", FieldKind::Text, "The role's name. Case does not matter.");
const BIND_SECRET_ID: Field = Field::optional("bind_secret_id", FieldKind::Boolean, "A login needs a secret id. True at first.");
const SECRET_ID_BOUND_CIDRS: Field =
    Field::optional("secret_id_bound_cidrs", FieldKind::List, "Addresses or CIDR blocks that may log in. Empty: all.");
const BOUND_CIDR_LIST: Field = Field::optional("bound_cidr_list", FieldKind::List, "An old name of secret_id_bound_cidrs.");
const SECRET_ID_NUM_USES: Field =
    Field::optional("secret_id_num_uses", FieldKind::Integer, "How often each secret id can be used. 0: as often as one likes.");
const SECRET_ID_TTL: Field = Field::optional("secret_id_ttl", FieldKind::Duration, "How long each secret id lives. 0: for ever.");
const LOCAL_SECRET_IDS: Field = Field::optional(
    "local_secret_ids",
    FieldKind::Boolean,
    "Only when the role is made; kept and shown. It concerns replication between clusters, and every cluster here has its own secret ids.",
);
const SECRET_ID: Field = Field::required("secret_id", FieldKind::Text, "The secret id, up to 1024 bytes.");
const ACCESSOR: Field = Field::required("secret_id_accessor", FieldKind::Text, "The secret id's accessor.");
const POLICIES: Field = Field::optional("policies", FieldKind::List, "An old name of token_policies.");
const PERIOD: Field = Field::optional("period", FieldKind::Duration, "An old name of token_period.");
const METADATA: Field = Field::optional("metadata", FieldKind::Map, "Names with texts, or such JSON in a text: the tokens' metadata.");
const CIDR_LIST: Field = Field::optional(
    "cidr_list",
    FieldKind::List,
    "Blocks that may use it, within the role's secret_id_bound_cidrs. Empty: as the role says.",
);
const SECRET_TOKEN_BOUND_CIDRS: Field = Field::optional(
    "token_bound_cidrs",
    FieldKind::List,
    "Blocks from which its tokens may be used, within the role's. Empty: as the role says.",
);
const NUM_USES: Field =
    Field::optional("num_uses", FieldKind::Integer, "How often it can be used; at most as the role says, which holds without it.");
const TTL: Field = Field::optional("ttl", FieldKind::Duration, "How long it lives; at most as the role says, which holds without it.");

/// One property of a role, by a path of its own.
macro_rules! property {
    ($pattern:literal, $about:literal, [$($field:expr),+]) => {
        Route {
            pattern: $pattern,
            about: $about,
            parameters: &[ROLE],
            methods: &[
                Method { verb: Verb::Read, summary: "Shows it.", fields: &[], query: &[], handler: property::read_property },
                Method { verb: Verb::Write, summary: "Sets it.", fields: &[$($field),+], query: &[], handler: property::write_property },
                Method {
                    verb: Verb::Delete,
                    summary: "Sets it to what a new role has.",
                    fields: &[],
                    query: &[],
                    handler: property::delete_property,
                },
            ],
            access: Access::Token,
        }
    };
}

const fn method(verb: Verb, summary: &'static str, fields: &'static [Field], handler: Handler) -> Method<Handler> {
    Method { verb, summary, fields, query: &[], handler }
}

/// What may be asked of the method.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "role",
        about: "The roles of this mount.",
        parameters: &[],
        methods: &[Method { verb: Verb::List, summary: "Lists their names.", fields: &[], query: LIST_QUERY, handler: role::list_roles }],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}",
        about: "One role: how to log in to it, and what its tokens are.",
        parameters: &[ROLE],
        methods: &[
            method(Verb::Read, "Shows the role, without its role id.", &[], role::read_role),
            method(
                Verb::Write,
                "Makes the role, or changes what is named.",
                with_token_fields![
                    BIND_SECRET_ID,
                    SECRET_ID_BOUND_CIDRS,
                    BOUND_CIDR_LIST,
                    SECRET_ID_NUM_USES,
                    SECRET_ID_TTL,
                    LOCAL_SECRET_IDS,
                    Field::optional("role_id", FieldKind::Text, "Its role id, up to 1024 bytes. Without it one is drawn."),
                    POLICIES,
                    PERIOD,
                ],
                role::write_role,
            ),
            method(
                Verb::Delete,
                "Deletes the role and its secret ids. Its tokens live on until they end, and are not renewed.",
                &[],
                role::delete_role,
            ),
        ],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/role-id",
        about: "The role's role id: its name for logins. No secret, but better not told to everybody.",
        parameters: &[ROLE],
        methods: &[
            method(Verb::Read, "Shows it.", &[], role::read_role_id),
            method(
                Verb::Write,
                "Sets another.",
                &[Field::required("role_id", FieldKind::Text, "The role id, up to 1024 bytes.")],
                role::write_role_id,
            ),
        ],
        access: Access::Token,
    },
    property!("role/{role_name}/policies", "The policies of the role's tokens.", [token_parameters::TOKEN_POLICIES, POLICIES]),
    property!("role/{role_name}/token-ttl", "How long the role's tokens live at first.", [token_parameters::TOKEN_TTL]),
    property!("role/{role_name}/token-max-ttl", "How long the role's tokens live at most.", [token_parameters::TOKEN_MAX_TTL]),
    property!("role/{role_name}/token-num-uses", "How often each of the role's tokens can be used.", [token_parameters::TOKEN_NUM_USES]),
    property!("role/{role_name}/token-bound-cidrs", "From where the role's tokens are used.", [token_parameters::TOKEN_BOUND_CIDRS]),
    property!("role/{role_name}/period", "The period of the role's tokens.", [token_parameters::TOKEN_PERIOD, PERIOD]),
    property!("role/{role_name}/bind-secret-id", "Whether a login needs a secret id.", [BIND_SECRET_ID]),
    property!("role/{role_name}/secret-id-num-uses", "How often each secret id can be used.", [SECRET_ID_NUM_USES]),
    property!("role/{role_name}/secret-id-ttl", "How long each secret id lives.", [SECRET_ID_TTL]),
    property!("role/{role_name}/secret-id-bound-cidrs", "Who may log in.", [SECRET_ID_BOUND_CIDRS]),
    property!("role/{role_name}/bound-cidr-list", "An old name of secret-id-bound-cidrs.", [BOUND_CIDR_LIST]),
    Route {
        pattern: "role/{role_name}/local-secret-ids",
        about: "Whether the role's secret ids are the cluster's own. Said when the role is made.",
        parameters: &[ROLE],
        methods: &[method(Verb::Read, "Shows it.", &[], property::read_property)],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/secret-id",
        about: "The role's secret ids.",
        parameters: &[ROLE],
        methods: &[
            Method {
                verb: Verb::List,
                summary: "Lists their accessors.",
                fields: &[],
                query: LIST_QUERY,
                handler: secret_id::list_accessors,
            },
            method(
                Verb::Write,
                "Draws a secret id and answers it, once.",
                &[METADATA, CIDR_LIST, SECRET_TOKEN_BOUND_CIDRS, NUM_USES, TTL],
                secret_id::generate,
            ),
        ],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/custom-secret-id",
        about: "Secret ids of the caller's own making. A drawn one is better.",
        parameters: &[ROLE],
        methods: &[method(
            Verb::Write,
            "Takes a secret id.",
            &[SECRET_ID, METADATA, CIDR_LIST, SECRET_TOKEN_BOUND_CIDRS, NUM_USES, TTL],
            secret_id::take,
        )],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/secret-id/lookup",
        about: "What is known of a secret id.",
        parameters: &[ROLE],
        methods: &[method(Verb::Write, "Shows it.", &[SECRET_ID], secret_id::look_up)],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/secret-id/destroy",
        about: "The end of a secret id.",
        parameters: &[ROLE],
        methods: &[
            method(Verb::Write, "Destroys it.", &[SECRET_ID], secret_id::destroy),
            method(Verb::Delete, "Destroys it.", &[SECRET_ID], secret_id::destroy),
        ],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/secret-id-accessor/lookup",
        about: "What is known of a secret id, by its accessor.",
        parameters: &[ROLE],
        methods: &[method(Verb::Write, "Shows it.", &[ACCESSOR], secret_id::look_up_accessor)],
        access: Access::Token,
    },
    Route {
        pattern: "role/{role_name}/secret-id-accessor/destroy",
        about: "The end of a secret id, by its accessor.",
        parameters: &[ROLE],
        methods: &[
            method(Verb::Write, "Destroys it.", &[ACCESSOR], secret_id::destroy_accessor),
            method(Verb::Delete, "Destroys it.", &[ACCESSOR], secret_id::destroy_accessor),
        ],
        access: Access::Token,
    },
    Route {
        pattern: "tidy/secret-id",
        about: "Records of secret ids that are over, or whose role is gone.",
        parameters: &[],
        methods: &[method(Verb::Write, "Removes them.", &[], tidy::tidy)],
        access: Access::Token,
    },
    Route {
        pattern: "login",
        about: "Logging in with role id and secret id.",
        parameters: &[],
        methods: &[method(
            Verb::Write,
            "Answers a token for the role.",
            &[
                Field::required("role_id", FieldKind::Text, "The role's role id."),
                Field::optional("secret_id", FieldKind::Text, "A secret id of the role, if it needs one."),
            ],
            login::login,
        )],
        access: Access::Anyone,
    },
];

fn role_record(root: &Name, name: &str) -> Name {
    root.join("role").join(name)
}

/// Where the name of the role with this role id is.
fn role_id_record(records: &Records, mount: &Mount, role_id: &str) -> Result<Name, PlanError> {
    let tag = records.view.with_keyring(|keyring| keyring.credential_tag("approle/role-id", &mount.uuid, role_id.as_bytes()));
    Ok(mount.root().join("role-id").join(&hex::encode(tag.ok_or(ViewError::Sealed)?)))
}

/// The folder of a role's secret ids.
fn secret_ids_folder(root: &Name, role: &AppRole) -> Name {
    root.join("secret-id").join(&role.id)
}

/// The folder of their accessors.
fn accessors_folder(root: &Name, role: &AppRole) -> Name {
    root.join("accessor").join(&role.id)
}

/// How a secret id of a role is kept.
fn secret_id_tag(records: &Records, role: &AppRole, secret_id: &str) -> Result<[u8; 32], PlanError> {
    let tag = records.view.with_keyring(|keyring| keyring.credential_tag("approle/secret-id", &role.id, secret_id.as_bytes()));
    Ok(tag.ok_or(ViewError::Sealed)?)
}

/// Where a secret id of a role is.
fn secret_id_record(root: &Name, role: &AppRole, tag: &[u8]) -> Name {
    secret_ids_folder(root, role).join(&hex::encode(tag))
}

fn name_of(asked: &Asked<'_>) -> Result<LoginName, AskError> {
    LoginName::parse(asked.captures.text("role_name")).map_err(|error| AskError::Invalid(error.to_string()))
}

/// A text that must be there, and not be longer than an id.
fn id_of<'a>(fields: &'a crate::body::Fields, name: &str) -> Result<&'a str, AskError> {
    let text = fields.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| AskError::Invalid(format!("missing {name}")))?;
    if text.len() > ID_BYTES_MAX {
        return Err(AskError::Invalid(format!("{name} is longer than {ID_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A role that was found.
struct FoundRole {
    record: Name,
    revision: Revision,
    role: AppRole,
}

impl FoundRole {
    /// By its name; `None` when there is none.
    fn find(scope: &Scope<'_>, name: &LoginName) -> Result<Option<FoundRole>, PlanError> {
        let record = role_record(&scope.mount.root(), name.as_str());
        let (revision, role) = read::<AppRole>(&scope.records.view, &record)?;
        Ok(role.map(|role| FoundRole { record, revision, role }))
    }

    /// By its name; an error when there is none.
    fn existing(scope: &Scope<'_>, name: &LoginName) -> Result<FoundRole, PlanError> {
        FoundRole::find(scope, name)?.ok_or_else(|| PlanError::NoSuch(format!("role \"{}\" does not exist", name.as_str())))
    }

    /// What follows holds only as long as the role is as it was found.
    fn expect(&self, plan: &mut Plan) {
        plan.expect(self.record.clone(), self.revision);
    }
}

/// What the role of a token says of its renewal.
pub(super) fn renewed(records: &Records, mount: &Mount, token: &Token, plan: &mut Plan) -> Result<TokenParameters, PlanError> {
    let name = token.internal.get("role_name").ok_or(PlanError::Malformed)?;
    let record = role_record(&mount.root(), name);
    let (revision, role): (Revision, Option<AppRole>) = read(&records.view, &record)?;
    let role = role.filter(|role| token.internal.get("role") == Some(&role.id));
    let role = role.ok_or_else(|| PlanError::Refused(format!("role \"{name}\" does not exist during renewal")))?;
    plan.expect(record, revision);
    Ok(role.token.unwrap_or_default())
}
