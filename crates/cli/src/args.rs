//! What can be typed. Shapes only; the commands are in `commands` and `dev`.

mod members;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use members::{Autopilot, AutopilotConfig, Members, MembersVerb, Raft};

/// As Vault's clients expect it: the second word of `-version` is the version, behind a `v`.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Self-hosted secrets service: a cluster that opens only when enough key holders agree.
///
/// Flags may be written with one dash, as in Vault's CLI. The token comes from CONCLAVE_TOKEN, BAO_TOKEN, VAULT_TOKEN, or the
/// file that `conclave login` writes. Exit codes: 0 done, 1 local error, 2 the server's error.
#[derive(Parser)]
#[command(name = "conclave", bin_name = "conclave", display_name = "Conclave", version = VERSION, propagate_version = false, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the cluster is, and how answers are shown.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// A node's API address, or several with commas [env: CONCLAVE_ADDRS, CONCLAVE_ADDR, BAO_ADDR, VAULT_ADDR]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) address: Vec<String>,
    /// PEM file of the authorities to trust [env: CONCLAVE_CACERT, BAO_CACERT, VAULT_CACERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Accept any certificate: for experiments only [env: …_SKIP_VERIFY]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) tls_skip_verify: Option<bool>,
    /// The name that the server's certificate must carry [env: …_TLS_SERVER_NAME]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// The namespace of the request [env: …_NAMESPACE]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) namespace: Option<String>,
    /// Wrap the answer for so long: a token that gives it once is shown instead [env: …_WRAP_TTL]
    #[arg(long, global = true, value_name = "TTL")]
    pub(crate) wrap_ttl: Option<String>,
    /// Let reads lack what was acknowledged within this time (500ms): they need no other node then [env: CONCLAVE_MAX_STALENESS]
    #[arg(long, global = true, value_name = "DURATION")]
    pub(crate) max_staleness: Option<String>,
    /// How reads are made certain, where that is to be stricter than the node's configuration [env: CONCLAVE_READ_CONSISTENCY]
    #[arg(long, global = true, value_name = "HOW", conflicts_with = "max_staleness")]
    pub(crate) read_consistency: Option<Consistency>,
    /// How answers are shown [env: CONCLAVE_FORMAT, BAO_FORMAT, VAULT_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Show only this field of the answer
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) field: Option<String>,
}

/// How a read is made certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consistency {
    /// As the node's configuration says.
    Lease,
    /// The leader asks a quorum.
    Quorum,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The API's JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run one node, by its configuration file
    Server(Server),
    /// Start a whole cluster on this machine, to try things out
    Dev(Dev),
    /// Show whether the node is sealed: exit 0 open, 2 sealed, 1 no answer
    Status(Status),
    /// Keys, members and certificates
    #[command(subcommand)]
    Operator(Operator),
    /// Secrets in the key-value store
    #[command(subcommand)]
    Kv(Kv),
    /// Secrets engines
    #[command(subcommand)]
    Secrets(Secrets),
    /// Audit devices
    #[command(subcommand)]
    Audit(Audit),
    /// Policies: who may do what, who can, and why not
    #[command(subcommand)]
    Policy(Policy),
    /// Several reads and writes of secrets as one: all are done, at one state, or none
    Transaction(Transaction),
    /// Tokens
    #[command(subcommand)]
    Token(Token),
    /// Get a token, or check one (typed, or one line on stdin), and keep it for later commands
    Login(Login),
    /// Show what a wrapping token (typed, or one line on stdin) holds; that works once
    Unwrap(Unwrap),
    /// Read any path
    Read(Read),
    /// Write any path
    Write(Write),
    /// List below any path
    List(Path),
    /// Delete any path
    Delete(Path),
    /// Print a completion script for a shell
    Completion(Completion),
    /// Print the version
    Version,
}

#[derive(Args)]
pub(crate) struct Server {
    /// The configuration file (HCL or JSON), or a folder of them; may be given several times
    #[arg(long, value_name = "FILE", required_unless_present = "dev")]
    pub(crate) config: Vec<PathBuf>,
    /// In place of a configuration: one node to try things out, as `conclave dev --nodes 1` starts it
    #[arg(long, conflicts_with_all = ["config", "check"])]
    pub(crate) dev: bool,
    /// With -dev: where it listens; on 127.0.0.1 only
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config", default_value = "127.0.0.1:8200", hide_default_value = true)]
    pub(crate) dev_listen_address: std::net::SocketAddr,
    /// With -dev: TLS for clients
    #[arg(long, conflicts_with = "config")]
    pub(crate) dev_tls: bool,
    /// While the node belongs to no cluster: the API address of a node to join; may be given several times, beside the configuration's retry_join
    #[arg(long, value_name = "ADDRESS", conflicts_with = "dev")]
    pub(crate) join: Vec<String>,
    /// With -join: the file with the join token. Without it, the token is in CONCLAVE_JOIN_TOKEN, or the cluster's shares are entered at this node
    #[arg(long, value_name = "FILE", requires = "join")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Only say whether the configuration is right
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) check: bool,
    /// Stop when stdin is closed: a parent that dies, however it dies, takes the node along
    #[arg(long, hide = true)]
    pub(crate) stop_on_stdin_close: bool,
}

#[derive(Args)]
pub(crate) struct Status {
    /// Exit 0 also when it is sealed or has no keys yet: it answers. For the health checks of containers
    #[arg(long)]
    pub(crate) live: bool,
}

#[derive(Args)]
pub(crate) struct Dev {
    /// How many nodes: 1, 3 or 5 [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<u8>,
    /// The first port; each node takes two. 0 picks free ones [default: 8200]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// TLS for clients too, with the cluster's own authority (nodes always speak TLS to each other)
    #[arg(long)]
    pub(crate) tls: bool,
    /// Keep everything here; the next start is sealed and asks for shares. Otherwise a temporary folder is used, and removed
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Write what a script needs to know (one JSON object with the root token and the shares) here, once the cluster serves
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// No live view
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Stop before the unseal ceremony
    #[arg(long, conflicts_with = "uninitialized")]
    pub(crate) sealed: bool,
    /// Stop before init
    #[arg(long)]
    pub(crate) uninitialized: bool,
}

#[derive(Subcommand)]
pub(crate) enum Operator {
    /// Make the cluster's keys, split among their holders
    Init(Init),
    /// Give one share of the key (typed unseen, or one line on stdin)
    Unseal(Unseal),
    /// Seal every node, and say which have confirmed it
    Seal(Seal),
    /// Make new shares, of a new key; on a terminal and without a verb, step by step
    #[command(alias = "rotate-keys")]
    Rekey(Rekey),
    /// Make a new root token with a quorum of shares; on a terminal and without a verb, step by step
    GenerateRoot(GenerateRoot),
    /// Draw a new key, which encrypts what is written from now on
    Rotate,
    /// Show the key that encrypts what is written now
    KeyStatus,
    /// Show, or change, when the key that encrypts is renewed by itself
    Rotation(Rotation),
    /// How far the cluster has been upgraded
    #[command(subcommand)]
    Upgrade(Upgrade),
    /// Show who holds which share, and when each was last seen to be right
    Shares(Shares),
    /// Check one share (typed unseen, or one line on stdin): it opens nothing
    VerifyShare(VerifyShare),
    /// What opens the cluster: shares, and static keys of the nodes' configurations
    #[command(subcommand)]
    Seals(Seals),
    /// Rehearse a whole ceremony on a throw-away cluster of three nodes on this machine
    Rehearse(Rehearse),
    /// Make a sheet for paper of one share (typed, or one line on stdin), which says what to do with it
    ShareSheet(ShareSheet),
    /// Show every member; or add, remove, promote, demote, replace one, or have another lead
    Members(Members),
    /// Have another member lead
    StepDown,
    /// Compare what all members hold: exit 0 equal, 2 not
    Check,
    /// Make a token by which one new node joins the cluster, once; or list them, or end one
    JoinToken(JoinToken),
    /// Show every member live: leader, lag, seal, rates, snapshots. q ends
    Top(Top),
    /// Capture what every node tells of itself for a while into one file, without secrets, to be looked at elsewhere
    Debug(Debug),
    /// The whole cluster as a file: save, look at, check and restore it
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Vault's names for what is done with the cluster
    #[command(subcommand)]
    Raft(Raft),
    /// Make an authority and the nodes' certificates
    Certs(Certs),
    /// What was done with the cluster's keys at a node: show it, check that nobody has changed it
    #[command(subcommand)]
    Journal(Journal),
}

#[derive(Args)]
pub(crate) struct Top {
    /// Look twice, show what is there, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to look; with -once the time that rates are of
    #[arg(long, default_value = "2s", value_name = "DURATION")]
    pub(crate) interval: String,
}

#[derive(Args)]
pub(crate) struct Debug {
    /// For how long
    #[arg(long, default_value = "2m", value_name = "DURATION")]
    pub(crate) duration: String,
    /// How often nodes are asked how they are
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub(crate) interval: String,
    /// How often they are asked for their metrics
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub(crate) metrics_interval: String,
    /// The file [default: conclave-debug-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What to capture; may be given several times. Without it everything
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Vec<DebugTarget>,
}

/// What a bundle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DebugTarget {
    /// The configurations, without what is secret.
    Config,
    /// The machines.
    Host,
    /// The traces.
    Log,
    /// Members, Raft's configuration, autopilot.
    Members,
    /// All metrics.
    Metrics,
    /// Requests under way.
    Requests,
    /// Health, seals, leader, versions.
    ServerStatus,
}

impl DebugTarget {
    /// Every one.
    pub(crate) fn all() -> Vec<DebugTarget> {
        DebugTarget::value_variants().to_vec()
    }

    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DebugTarget::Config => "config",
            DebugTarget::Host => "host",
            DebugTarget::Log => "log",
            DebugTarget::Members => "members",
            DebugTarget::Metrics => "metrics",
            DebugTarget::Requests => "requests",
            DebugTarget::ServerStatus => "server-status",
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Snapshot {
    /// Write a snapshot of now to a file, which is checked before it gets its name
    Save(SnapshotFile),
    /// Show what a snapshot file is of. Needs no server and no keys
    Inspect(SnapshotFile),
    /// Check every byte of a snapshot file: exit 0 whole, 2 not. Needs no server and no keys
    Verify(SnapshotVerify),
    /// Put a snapshot in the place of every record of the cluster
    Restore(SnapshotRestore),
    /// Take one secret, folder or KV mount out of a snapshot of this cluster, and leave all else as it is
    Extract(SnapshotExtract),
    /// Show how far the restore has come that is under way
    Progress,
    /// End the restore that is under way, as long as nothing is replaced
    Cancel,
    /// Restore the newest file of a schedule into a scratch state, at the node that has it: exit 0 it could be restored, 2 not
    Drill(SnapshotDrill),
}

#[derive(Args)]
pub(crate) struct SnapshotFile {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Args)]
pub(crate) struct SnapshotExtract {
    #[command(flatten)]
    pub(crate) file: SnapshotFile,
    /// A secret, as mount/path; or a folder or a whole mount, with a slash at the end
    #[arg(long, value_name = "PATH")]
    pub(crate) path: String,
    /// Where it comes to [default: where it was]
    #[arg(long, value_name = "PATH")]
    pub(crate) to: Option<String>,
    /// Only show what would come back: names, versions and times, no values
    #[arg(long)]
    pub(crate) preview: bool,
    /// Replace secrets that are there, with their history; otherwise nothing is done if one is
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Of one secret of KV version 2: only this version, written as a new version of the secret
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
}

#[derive(Args)]
pub(crate) struct SnapshotDrill {
    /// The schedule's name (sys/storage/raft/snapshot-auto/config)
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct SnapshotVerify {
    #[command(flatten)]
    pub(crate) file: SnapshotFile,
    /// Also ask the cluster whether it is its own, unchanged: only its keys can tell
    #[arg(long)]
    pub(crate) online: bool,
}

#[derive(Args)]
pub(crate) struct SnapshotRestore {
    #[command(flatten)]
    pub(crate) file: SnapshotFile,
    /// Also one of another cluster: every record here is lost, every node is sealed, and its shares open the cluster from then on
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Subcommand)]
pub(crate) enum Journal {
    /// Check the chain of hashes: exit 0 whole, 2 broken, 1 could not be checked. Needs no server
    Verify(JournalVerify),
    /// Show the entries, oldest first; of several nodes together by their clocks. Needs no server
    Show(JournalShow),
}

/// Where journals are.
#[derive(Args)]
pub(crate) struct JournalPlaces {
    /// Files of one journal, or copies of them; or folders of them
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A node's data folder; may be given several times
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct JournalVerify {
    #[command(flatten)]
    pub(crate) places: JournalPlaces,
    /// An audit log whose records of the journal must agree with it; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct JournalShow {
    #[command(flatten)]
    pub(crate) places: JournalPlaces,
    /// So many of the newest entries of each journal
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) last: u32,
}

/// Who is to have shares.
#[derive(Args)]
pub(crate) struct Holders {
    /// Their names, one for each share
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) holders: Vec<String>,
    /// Files with OpenPGP public keys (binary, armored or base64) to encrypt the shares to, one for each share
    #[arg(long, value_name = "FILES", value_delimiter = ',', conflicts_with = "recipients")]
    pub(crate) pgp_keys: Vec<String>,
    /// As -pgp-keys, but each is an age recipient (age1…), or a file with one or with an OpenPGP key
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub(crate) recipients: Vec<String>,
}

/// How new shares get to their holders.
#[derive(Args)]
pub(crate) struct HandOut {
    /// Write each share on a sheet to print (HTML, which only you may read) into this folder, and show none
    #[arg(long, value_name = "FOLDER", conflicts_with = "hand_out")]
    pub(crate) share_sheets: Option<PathBuf>,
    /// Show the shares one after the other, each to its holder alone, and clear the screen in between
    #[arg(long)]
    pub(crate) hand_out: bool,
}

#[derive(Args)]
pub(crate) struct Init {
    /// How many shares to make
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(crate) key_shares: u32,
    /// How many of them open the cluster
    #[arg(long, short = 't', default_value_t = 3, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(crate) key_threshold: u32,
    #[command(flatten)]
    pub(crate) holders: Holders,
    #[command(flatten)]
    pub(crate) hand_out: HandOut,
    /// A file with an OpenPGP public key (or an age recipient) to encrypt the first root token to
    #[arg(long, value_name = "FILE")]
    pub(crate) root_token_pgp_key: Option<String>,
    /// Only tell whether it is done: exit 0 yes, 2 no, 1 no answer
    #[arg(long)]
    pub(crate) status: bool,
}

#[derive(Args)]
pub(crate) struct Unseal {
    /// The share; `-` reads one line from stdin. Better left out: the shell remembers what is typed here
    #[arg(value_name = "SHARE")]
    pub(crate) share: Option<String>,
    /// Throw away the shares that were given so far; one of them must be given for it, so that nobody else can
    #[arg(long)]
    pub(crate) reset: bool,
    /// Once the cluster opens, make its static seals those of the nodes' configuration
    #[arg(long, conflicts_with = "reset")]
    pub(crate) migrate: bool,
}

#[derive(Args)]
pub(crate) struct Seal {
    /// Seal this node only
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<String>,
}

/// What proves that the caller may, where a token does not.
#[derive(Args)]
pub(crate) struct ShareAsProof {
    /// Only `-`: one of the cluster's shares, typed unseen or one line on stdin, as proof in place of a token
    #[arg(long = "share", value_name = "-")]
    pub(crate) source: Option<String>,
}

#[derive(Args)]
pub(crate) struct Rekey {
    /// An old share (with -verify, a new one); `-` reads one line from stdin. Better left out: the shell remembers what is typed here
    #[arg(value_name = "SHARE")]
    pub(crate) share: Option<String>,
    /// Start it
    #[arg(long, group = "verb")]
    pub(crate) init: bool,
    /// Cancel it (with -verify: ask for the new shares from the beginning)
    #[arg(long, group = "verb")]
    pub(crate) cancel: bool,
    /// Show how far it has come
    #[arg(long, group = "verb")]
    pub(crate) status: bool,
    /// It is about the verification: the new shares, which have to come back before they are in force
    #[arg(long, conflicts_with_all = ["init", "backup_retrieve", "backup_delete"])]
    pub(crate) verify: bool,
    /// Show the encrypted shares that -backup kept
    #[arg(long, group = "verb")]
    pub(crate) backup_retrieve: bool,
    /// Delete them
    #[arg(long, group = "verb")]
    pub(crate) backup_delete: bool,
    /// Which attempt; without it, whichever is under way
    #[arg(long, value_name = "NONCE")]
    pub(crate) nonce: Option<String>,
    /// How many new shares to make [default: as many as there are]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(crate) key_shares: Option<u32>,
    /// How many of them open the cluster [default: as now]
    #[arg(long, short = 't', value_name = "K", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub(crate) key_threshold: Option<u32>,
    #[command(flatten)]
    pub(crate) holders: Holders,
    /// The holders of now, and this one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["holders", "key_shares"])]
    pub(crate) add_holder: Vec<String>,
    /// The holders of now, without this one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["holders", "key_shares"])]
    pub(crate) remove_holder: Vec<String>,
    /// Keep the encrypted shares in the cluster until -backup-delete
    #[arg(long)]
    pub(crate) backup: bool,
    #[command(flatten)]
    pub(crate) hand_out: HandOut,
    /// Only barrier: there are no recovery keys
    #[arg(long, value_name = "TARGET", default_value = "barrier", hide_default_value = true)]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) proof: ShareAsProof,
}

#[derive(Args)]
pub(crate) struct GenerateRoot {
    /// A share; `-` reads one line from stdin. Better left out: the shell remembers what is typed here
    #[arg(value_name = "SHARE")]
    pub(crate) share: Option<String>,
    /// Start it
    #[arg(long, group = "verb")]
    pub(crate) init: bool,
    /// Cancel it
    #[arg(long, group = "verb")]
    pub(crate) cancel: bool,
    /// Show how far it has come
    #[arg(long, group = "verb")]
    pub(crate) status: bool,
    /// Draw a one-time password for -init
    #[arg(long, group = "verb")]
    pub(crate) generate_otp: bool,
    /// Decode the token that the last share gave; `-` reads it from stdin. Needs -otp
    #[arg(long, value_name = "ENCODED", group = "verb", requires = "otp")]
    pub(crate) decode: Option<String>,
    /// The one-time password, for -init and -decode; `-` asks for it unseen
    #[arg(long, value_name = "OTP")]
    pub(crate) otp: Option<String>,
    /// In place of a one-time password: a file with an OpenPGP public key, or an age recipient, to encrypt the token to
    #[arg(long, value_name = "FILE", conflicts_with = "otp")]
    pub(crate) pgp_key: Option<String>,
    /// Which attempt; without it, whichever is under way
    #[arg(long, value_name = "NONCE")]
    pub(crate) nonce: Option<String>,
    #[command(flatten)]
    pub(crate) proof: ShareAsProof,
}

#[derive(Subcommand)]
pub(crate) enum Upgrade {
    /// Show the feature level, and what each member's release knows
    Status,
    /// Let the cluster write what its new release can: no member can go back to an older one
    Raise(Raise),
}

#[derive(Args)]
pub(crate) struct Raise {
    /// Up to where [default: as far as every member knows]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<u32>,
}

#[derive(Args)]
pub(crate) struct Rotation {
    /// After so many encryptions in the whole cluster
    #[arg(long, value_name = "N")]
    pub(crate) max_operations: Option<u64>,
    /// After so long (720h); 0: not by time
    #[arg(long, value_name = "DURATION")]
    pub(crate) interval: Option<String>,
    /// Whether it is renewed by itself at all
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) enabled: Option<bool>,
}

#[derive(Args)]
pub(crate) struct Shares {
    /// A share counts as verified when it was seen to be right within this time: 90d, 24h
    #[arg(long, value_name = "DURATION", default_value = "90d")]
    pub(crate) within: String,
    /// Warn when fewer verified shares than this are left beyond the threshold
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) margin: u32,
    /// Make the warning exit code 2
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args)]
pub(crate) struct VerifyShare {
    /// Only `-` (stdin): a share on the command line would stay in the shell's history
    #[arg(value_name = "-")]
    pub(crate) source: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Seals {
    /// Show what opens the cluster
    List,
    /// Add a static key as a further seal, with a quorum of shares
    Add(SealChange),
    /// Remove a static key, with a quorum of shares
    Remove(SealChange),
    /// Show how far a change has come
    Status,
    /// Cancel a change
    Cancel {
        /// Which attempt; without it, whichever is under way
        #[arg(long, value_name = "NONCE")]
        nonce: Option<String>,
        #[command(flatten)]
        proof: ShareAsProof,
    },
}

#[derive(Args)]
pub(crate) struct SealChange {
    /// The static key, as the node that is asked calls it in its configuration (current_key_id)
    #[arg(value_name = "KEY_ID")]
    pub(crate) key_id: String,
    #[command(flatten)]
    pub(crate) proof: ShareAsProof,
}

#[derive(Args)]
pub(crate) struct Rehearse {
    /// How many shares to make
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=9))]
    pub(crate) key_shares: u32,
    /// How many of them open the cluster
    #[arg(long, short = 't', default_value_t = 3, value_name = "K", value_parser = clap::value_parser!(u32).range(2..=9))]
    pub(crate) key_threshold: u32,
    /// Wait for nobody: go through all steps at once
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct ShareSheet {
    /// Whose share it is; without it, a line to write on
    #[arg(long, value_name = "NAME")]
    pub(crate) holder: Option<String>,
    /// Write it as an HTML file to print, which only you may read; nothing is overwritten
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// With the share as a QR code (an HTML file has it anyway)
    #[arg(long)]
    pub(crate) qr: bool,
    /// Ask no node about the cluster: leave lines to write on
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Args)]
pub(crate) struct JoinToken {
    /// The node that it is for [default: any new one]
    #[arg(long, value_name = "ID", conflicts_with_all = ["list", "revoke"])]
    pub(crate) node_id: Option<String>,
    /// How long it is good [default: 1h]
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["list", "revoke"])]
    pub(crate) ttl: Option<String>,
    /// The node is not to become a voter
    #[arg(long, conflicts_with_all = ["list", "revoke"])]
    pub(crate) non_voter: bool,
    /// List the tokens, used ones too, without their secrets
    #[arg(long, conflicts_with = "revoke")]
    pub(crate) list: bool,
    /// End the token of this id
    #[arg(long, value_name = "ID")]
    pub(crate) revoke: Option<String>,
}

#[derive(Args)]
pub(crate) struct Certs {
    /// The cluster's name, as in the nodes' configuration
    #[arg(long, default_value = "conclave", value_name = "NAME")]
    pub(crate) cluster: String,
    /// Where the files go. An authority that is there already signs for more nodes; nothing is overwritten
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// A folder below which each node gets one of its own (DIR/n1/ca.pem, node.pem, node-key.pem), to be mounted as it is
    #[arg(long, value_name = "DIR")]
    pub(crate) folders: Option<PathBuf>,
    /// Leave nodes whose files are all there as they are, so that it may run at every start
    #[arg(long)]
    pub(crate) keep: bool,
    /// Who is to own the nodes' files, in numbers; takes root
    #[arg(long, value_name = "UID[:GID]")]
    pub(crate) owner: Option<String>,
    /// How long the certificates are valid
    #[arg(long, default_value_t = 1825, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
    /// Node ids, each with the hosts and addresses at which it is reached: n1=10.0.0.1,vault1.example
    #[arg(required = true, value_name = "ID=HOST[,HOST]")]
    pub(crate) nodes: Vec<String>,
}

/// The mount, where the path does not say it.
#[derive(Args)]
pub(crate) struct Mount {
    /// Where the engine is mounted; without it the first part of the path tells
    #[arg(long, value_name = "PATH")]
    pub(crate) mount: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Kv {
    /// Write a secret
    Put {
        /// Only if this is the newest version (0: only if there is none)
        #[arg(long, value_name = "VERSION", allow_negative_numbers = true)]
        cas: Option<u64>,
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
        /// key=value, key=@file, key=- (stdin), @file.json, or - (JSON on stdin)
        #[arg(required = true, value_name = "DATA")]
        data: Vec<String>,
    },
    /// Read a secret
    Get {
        /// Which version, in place of the newest
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
    },
    /// List the names below a path
    List {
        #[command(flatten)]
        mount: Mount,
        /// The folder's path
        #[arg(required_unless_present = "mount", default_value = "", hide_default_value = true)]
        path: String,
    },
    /// Delete the newest version, or those named; `undelete` brings them back
    Delete {
        /// Which versions
        #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
        versions: Vec<u64>,
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
    },
    /// Bring deleted versions back
    Undelete {
        /// Which versions
        #[arg(long, required = true, value_name = "VERSIONS", value_delimiter = ',')]
        versions: Vec<u64>,
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
    },
    /// Remove versions for good
    Destroy {
        /// Which versions
        #[arg(long, required = true, value_name = "VERSIONS", value_delimiter = ',')]
        versions: Vec<u64>,
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
    },
    /// What is known of a secret besides its values
    #[command(subcommand)]
    Metadata(KvMetadata),
    /// Move a secret, or (both paths end with /) a folder, with its history, to another path or mount; as one
    Move(Transfer),
    /// Copy a secret, or (both paths end with /) a folder, with its history, to another path or mount; as one
    Copy(Transfer),
}

#[derive(Args)]
pub(crate) struct Transfer {
    /// Replace secrets that are there already, with their history; without it nothing is done then
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Mount and path: secret/app, or secret/app/ for all below
    pub(crate) from: String,
    /// Mount and path
    pub(crate) to: String,
}

#[derive(Subcommand)]
pub(crate) enum KvMetadata {
    /// Show a secret's versions and settings
    Get {
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
    },
    /// Remove a secret for good: every version and its metadata
    Delete {
        #[command(flatten)]
        mount: Mount,
        /// The secret's path
        path: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Secrets {
    /// Show what is mounted
    List,
    /// Mount an engine
    Enable {
        /// Where; without it the engine's name
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        /// KV's version: 1 or 2
        #[arg(long, value_name = "N")]
        version: Option<u8>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// kv, or kv-v2 for version 2
        #[arg(value_name = "ENGINE")]
        kind: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Show the devices
    List,
    /// Turn a device on
    Enable {
        /// Its path; without it the device's type
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// file
        #[arg(value_name = "TYPE")]
        kind: String,
        /// Options: file_path=/var/log/conclave/audit.log
        #[arg(value_name = "KEY=VALUE")]
        options: Vec<String>,
    },
    /// Turn a device off
    Disable {
        /// Its path
        path: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Show the names
    List,
    /// Show a policy's text
    Read {
        /// Its name
        name: String,
    },
    /// Write a policy, or replace it
    Write {
        /// Its name
        name: String,
        /// The file with its text (HCL or JSON), or - for stdin
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Remove a policy
    Delete {
        /// Its name
        name: String,
    },
    /// Show who can do something at a path: policies, and the tokens with them
    WhoCan {
        /// Do what
        #[arg(long, default_value = "read", value_name = "CAPABILITY")]
        capability: String,
        /// The path, as policies have it: secret/data/app
        path: String,
    },
    /// Show why a request was denied, and the smallest rule that would allow it
    Explain {
        /// The request's id: in the error, in the header X-Conclave-Request-Id, or in the audit log
        #[arg(value_name = "REQUEST_ID")]
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Transaction {
    /// A JSON file, or - for stdin: [{"operation": "read", "path": "secret/data/app"}, …], each with body and query as needed
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make a token
    Create(TokenCreate),
    /// Show what a token is; without more, the one in use
    Lookup(TokenChoice),
    /// Make a token live longer; without more, the one in use
    Renew {
        /// For how long, in place of the token's own TTL
        #[arg(long, value_name = "TTL")]
        increment: Option<String>,
        #[command(flatten)]
        token: TokenChoice,
    },
    /// End a token, and those made with it
    Revoke {
        /// End the one in use
        #[arg(long = "self", conflicts_with_all = ["accessor", "source"])]
        own: bool,
        #[command(flatten)]
        token: TokenChoice,
    },
}

/// Which token.
#[derive(Args)]
pub(crate) struct TokenChoice {
    /// The one with this accessor
    #[arg(long, value_name = "ACCESSOR", conflicts_with = "source")]
    pub(crate) accessor: Option<String>,
    /// Only `-`: the one on stdin. A token on the command line would stay in the shell's history
    #[arg(value_name = "-")]
    pub(crate) source: Option<String>,
}

#[derive(Args)]
pub(crate) struct TokenCreate {
    /// A policy it has; may be given several times. Without any, those of the token in use
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Vec<String>,
    /// How long it lives
    #[arg(long, value_name = "TTL")]
    pub(crate) ttl: Option<String>,
    /// How long it lives at most, however often it is renewed
    #[arg(long, value_name = "TTL")]
    pub(crate) explicit_max_ttl: Option<String>,
    /// Makes it periodic: each renewal is for so long, without an end
    #[arg(long, value_name = "TTL")]
    pub(crate) period: Option<String>,
    /// Whose it is, for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// How often it may be used; 0: as often as one likes
    #[arg(long, value_name = "N")]
    pub(crate) use_limit: Option<u64>,
    /// Whether it may be renewed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) renewable: Option<bool>,
    /// It does not end with the token in use
    #[arg(long)]
    pub(crate) orphan: bool,
    /// Without the policy default
    #[arg(long)]
    pub(crate) no_default_policy: bool,
    /// service, or batch
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// By this role
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,
    /// name=text, shown with the token and kept in the audit log; may be given several times
    #[arg(long, value_name = "NAME=TEXT")]
    pub(crate) metadata: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Login {
    /// token, userpass or approle
    #[arg(long, value_name = "METHOD", default_value = "token")]
    pub(crate) method: String,
    /// Where the method is mounted; without it the method's name
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Only check it; a token that a method gave is shown
    #[arg(long)]
    pub(crate) no_store: bool,
    /// username=… or role_id=…; `-` reads the secret part from stdin, else it is asked for. Never the secret itself: it would stay in the
    /// shell's history
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Unwrap {
    /// Only `-` (stdin): a token on the command line would stay in the shell's history
    #[arg(value_name = "-")]
    pub(crate) source: Option<String>,
}

#[derive(Args)]
pub(crate) struct Read {
    /// The path
    pub(crate) path: String,
    /// Parameters: key=value
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Write {
    /// Write without data
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// The path
    pub(crate) path: String,
    /// key=value, key=@file, key=- (stdin), @file.json, or - (JSON on stdin)
    #[arg(value_name = "DATA", required_unless_present = "force")]
    pub(crate) data: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Path {
    /// The path
    pub(crate) path: String,
}

#[derive(Args)]
pub(crate) struct Completion {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn vaults_own_lines_are_understood() {
        for line in [
            "conclave server -config x.hcl",
            "conclave server -config=x.hcl -check",
            "conclave server -config=x.hcl -config conf.d",
            "conclave server -dev",
            "conclave server -dev -dev-listen-address=127.0.0.1:0 -dev-tls",
            "conclave operator init -key-shares=5 -key-threshold=3 -format=json",
            "conclave operator init -n=1 -t 1",
            "conclave operator unseal",
            "conclave operator unseal -",
            "conclave operator unseal -migrate",
            "conclave operator init -holders=Ada,Grace -recipients=age1x,b.asc -root-token-pgp-key=c.asc -share-sheets=sheets -n=2 -t=2",
            "conclave operator init -key-shares=1 -key-threshold=1 -pgp-keys=ada.asc",
            "conclave operator seal -node=n2",
            "conclave operator rekey -init -key-shares=5 -key-threshold=3 -pgp-keys=a,b,c,d,e -backup -target=barrier",
            "conclave operator rekey -nonce=x -",
            "conclave operator rekey -verify -nonce=x -",
            "conclave operator rekey -verify -status",
            "conclave operator rekey -verify -cancel",
            "conclave operator rekey -cancel -share=-",
            "conclave operator rekey -backup-retrieve",
            "conclave operator rekey -add-holder=Alan -remove-holder=Grace -hand-out",
            "conclave operator rotate-keys -init",
            "conclave operator generate-root -init -otp=x",
            "conclave operator generate-root -init -pgp-key=ada.asc",
            "conclave operator generate-root -decode x -otp y",
            "conclave operator generate-root -generate-otp",
            "conclave operator generate-root -nonce=x -",
            "conclave operator rotate",
            "conclave operator members",
            "conclave operator members list -format=json",
            "conclave operator members add n4 -cluster-addr=https://n4:8201 -api-addr=https://n4:8200 -non-voter",
            "conclave operator members remove n3 -force",
            "conclave operator members replace n3 n4",
            "conclave operator members transfer",
            "conclave operator members transfer n2 -force",
            "conclave operator step-down",
            "conclave operator raft list-peers",
            "conclave operator raft remove-peer n3",
            "conclave operator raft autopilot state",
            "conclave operator raft autopilot set-config -cleanup-dead-servers -min-quorum=3",
            "conclave operator raft autopilot set-config -cleanup-dead-servers=false -server-stabilization-time=30s",
            "conclave operator key-status",
            "conclave operator rotation -max-operations=1000000 -interval=720h -enabled=false",
            "conclave operator shares -within=30d -margin=2 -strict",
            "conclave operator verify-share",
            "conclave operator top -once -interval=1s -format=json",
            "conclave operator debug -duration=10s -interval=1s -metrics-interval=1s -output=b.tar.gz -target=log -target=server-status",
            "conclave operator seals list",
            "conclave operator seals add 2026 -share=-",
            "conclave operator seals remove 2026",
            "conclave operator rehearse -yes -key-shares=5 -key-threshold=3",
            "conclave -address=http://a,http://b status",
            "conclave status -tls-skip-verify",
            "conclave status -live",
            "conclave operator certs -out=a -folders=b -keep -owner=65532:65532 n1=a n2=b",
            "conclave kv put -cas=0 secret/a x=1 y=@f",
            "conclave kv put -mount=secret a -",
            "conclave kv list -mount=secret",
            "conclave kv get -version=2 -field=x secret/a",
            "conclave kv destroy -versions=1,2 secret/a",
            "conclave secrets enable -path=k2 -version=2 kv",
            "conclave audit enable file file_path=/tmp/a",
            "conclave write -f sys/x",
            "conclave read -namespace=team -wrap-ttl=5m secret/data/a",
            "conclave kv move secret/a/ other/a/ -overwrite",
            "conclave kv copy secret/a other/a",
            "conclave policy who-can secret/data/a -capability=update",
            "conclave policy explain 0b1b6a3e-0000-0000-0000-000000000000",
            "conclave policy write app -",
            "conclave transaction -",
            "conclave login",
            "conclave login -",
            "conclave login -method=userpass -path=people username=ann",
            "conclave token create -policy=a -policy b -ttl=1h -type=batch -orphan -use-limit=3 -metadata team=x",
            "conclave token lookup -accessor x",
            "conclave token renew -increment=1h",
            "conclave token revoke -self",
            "conclave token revoke -",
            "conclave unwrap -",
            "conclave dev --nodes 3 --port 0 --tls --quiet",
        ] {
            let argv = crate::argv::normalise(line.split(' ').map(std::ffi::OsString::from));
            if let Err(error) = Arguments::command().try_get_matches_from(argv) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "conclave server",
            "conclave server -dev -config=x.hcl",
            "conclave server -dev-tls -config=x.hcl",
            "conclave server -dev-listen-address=127.0.0.1:1 -config=x.hcl",
            "conclave server -dev-tls",
            "conclave operator init -key-shares=0",
            "conclave operator init -key-shares=256",
            "conclave operator init -pgp-keys=a -recipients=b",
            "conclave operator init -share-sheets=a -hand-out",
            "conclave operator unseal -reset -migrate",
            "conclave operator members remove",
            "conclave operator members add n4",
            "conclave operator members transfer -force",
            "conclave operator raft autopilot set-config",
            "conclave operator rekey -init -cancel",
            "conclave operator rekey -init -verify",
            "conclave operator rekey -add-holder=Alan -holders=Ada",
            "conclave operator rekey -add-holder=Alan -key-shares=6",
            "conclave operator generate-root -decode=x",
            "conclave operator generate-root -init -otp=x -pgp-key=y",
            "conclave operator generate-root -init -status",
            "conclave operator rehearse -key-shares=2",
            "conclave kv put -cas=-1 secret/a x=1",
            "conclave kv undelete secret/a",
            "conclave kv put secret/a",
            "conclave dev --sealed --uninitialized",
            "conclave status -format=xml",
            "conclave write sys/x",
            "conclave -token=x status",
            "conclave kv move secret/a",
            "conclave token revoke -self -accessor=x",
            "conclave token lookup -accessor=x -",
            "conclave transaction",
            "conclave policy explain",
        ] {
            let argv = crate::argv::normalise(line.split(' ').map(std::ffi::OsString::from));
            assert!(Arguments::command().try_get_matches_from(argv).is_err(), "{line}");
        }
    }
}
