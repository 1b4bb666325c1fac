//! Who belongs to the cluster, where nodes make and renew their certificates themselves: the cluster's authority and the join tokens, both
//! records behind the barrier, and the messages by which a node joins.
//!
//! Always: whoever joins has shown that it holds the secret of a token, or the cluster's own keys; that secret never crosses the wire, and
//! answers are authenticated by it as requests are. A node's private key never leaves it: it sends a certificate request.
//! Knows nothing of HTTP or of files.

mod admit;
mod authority;
mod by_shares;
mod token;
mod wire;

pub use admit::{IdentityService, JoinRefusal, RenewRefusal};
pub use authority::{AuthorityError, CERTIFICATE_LIFE, NodeKey};
pub use by_shares::{JoinKeys, JoinShares};
pub use token::{
    JOIN_TOKEN_TTL_MAX, JoinToken, JoinTokenStatus, NewJoinToken, TokenTextError, join_tokens, plan_join_token, revoke_join_token,
};
pub use wire::{AnswerError, CHALLENGE_LIFE, JOIN_MESSAGE_BYTES_MAX, JoinSecret, Joined, JoinerFacts, SealedRequest, SentRequest};
