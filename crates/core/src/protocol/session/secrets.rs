//! The secrets by which agent and master recognise each other's messages: the agent's nonce and
//! the master's token.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Time, Upid};

/// Length of a nonce, in bytes.
const NONCE: usize = 16;
/// Length of the number with which a token begins, in bytes.
const ISSUE: usize = 8;
/// Length of the code with which a token ends, in bytes.
const CODE: usize = 16;

/// Secret of an agent's process for one leading master. A message with it is from a process that
/// received the agent's registration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; NONCE]);

/// Secret of a master's process for one nonce of an agent. A message with it is from a process
/// that received what the master sent to the agent's address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; ISSUE + CODE]);

/// Number of a token: each is larger than the one before. In microseconds, so that it also
/// gives the time of issue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue(u64);

/// Secrets stay out of log lines and panic messages.
macro_rules! hidden {
    ($($secret:ident),*) => {
        $(impl std::fmt::Debug for $secret {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($secret), "(…)"))
            }
        })*
    };
}

hidden!(Nonce, Token, Seed, NonceSource, TokenIssuer);

impl Nonce {
    /// Returns the nonce of a message; `None` if the length is wrong.
    pub fn read(bytes: &[u8]) -> Option<Nonce> {
        bytes.try_into().ok().map(Nonce)
    }

    /// Returns the bytes for a message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Token {
    /// Returns the token of a message; `None` if the length is wrong.
    pub fn read(bytes: &[u8]) -> Option<Token> {
        bytes.try_into().ok().map(Token)
    }

    /// Returns the bytes for a message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the number of the token. It counts only after [`TokenIssuer::check`].
    fn issue(&self) -> Issue {
        let (issue, _) = self.0.split_at(ISSUE);
        Issue(
            issue
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }
}

impl Issue {
    /// Returns the time of issue.
    pub fn time(self) -> Time {
        Time(std::time::Duration::from_micros(self.0))
    }
}

/// Random bytes that nobody else knows, from which a machine derives its random numbers and
/// secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl From<[u8; 32]> for Seed {
    fn from(bytes: [u8; 32]) -> Seed {
        Seed(bytes)
    }
}

/// For tests and simulations: the same number gives the same random numbers and secrets.
impl From<u64> for Seed {
    fn from(number: u64) -> Seed {
        let mut seed = Seed([0; 32]);
        seed.0[..8].copy_from_slice(&number.to_be_bytes());
        seed
    }
}

impl Seed {
    /// Returns a generator of random numbers that need not be secret: delays, choices. Its seed
    /// is the first 8 bytes, so that the other 24 stay secret whatever its numbers show.
    pub fn random(&self) -> fastrand::Rng {
        let (number, _) = self.0.split_at(8);
        fastrand::Rng::with_seed(
            number
                .iter()
                .fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
        )
    }

    /// Returns a code of `parts` that nobody can compute who does not know the seed. `label`
    /// separates the uses of a seed.
    fn code(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = keyed(&self.0);
        for part in [label.as_bytes()].iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Returns HMAC-SHA256 with this key, which may have any length.
pub(super) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // A key of any length is accepted.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

/// Source of an agent's nonces.
#[derive(Clone)]
pub struct NonceSource {
    seed: Seed,
    count: u64,
}

impl NonceSource {
    /// Creates a source of nonces.
    pub fn new(seed: &Seed) -> NonceSource {
        NonceSource {
            seed: *seed,
            count: 0,
        }
    }

    /// Returns a new nonce.
    pub fn draw(&mut self) -> Nonce {
        self.count += 1;
        let code = self.seed.code("nonce", &[&self.count.to_be_bytes()]);
        let mut nonce = Nonce([0; NONCE]);
        nonce.0.copy_from_slice(&code[..NONCE]);
        nonce
    }
}

/// Issuer of a master's tokens. It keeps nothing about a token, so tokens that nobody uses cost
/// nothing.
#[derive(Clone)]
pub struct TokenIssuer {
    seed: Seed,
    last: Issue,
}

impl TokenIssuer {
    /// Creates an issuer. Tokens of another seed are invalid.
    pub fn new(seed: &Seed) -> TokenIssuer {
        TokenIssuer {
            seed: *seed,
            last: Issue(0),
        }
    }

    /// Returns a new token for an agent's process.
    pub fn issue(&mut self, now: Time, agent: &Upid, nonce: &Nonce) -> Token {
        let now = u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX - 1);
        self.last = Issue(now.max(self.last.0 + 1));
        self.token(self.last, agent, nonce)
    }

    /// Returns the number of a token if this issuer issued it for this process and nonce.
    pub fn check(&self, token: &Token, agent: &Upid, nonce: &Nonce) -> Option<Issue> {
        let issue = token.issue();
        equal(&self.token(issue, agent, nonce).0, &token.0).then_some(issue)
    }

    /// Returns a number larger than those of all tokens issued so far.
    pub fn last_issue(&self) -> Issue {
        self.last
    }

    fn token(&self, issue: Issue, agent: &Upid, nonce: &Nonce) -> Token {
        let number = issue.0.to_be_bytes();
        let code = self.seed.code(
            "token",
            &[agent.to_string().as_bytes(), nonce.as_bytes(), &number],
        );
        let mut token = Token([0; ISSUE + CODE]);
        token.0[..ISSUE].copy_from_slice(&number);
        token.0[ISSUE..].copy_from_slice(&code[..CODE]);
        token
    }

    /// Returns bytes for an agent of an earlier release to return; see `AgentOverlayInfo.echo`.
    pub fn echo(&self, agent: &Upid) -> [u8; CODE] {
        let code = self.seed.code("echo", &[agent.to_string().as_bytes()]);
        let mut echo = [0; CODE];
        echo.copy_from_slice(&code[..CODE]);
        echo
    }

    /// Returns a random number other than 0 for a term: nobody can guess it who was not told.
    pub fn epoch(&self, term: u64) -> u64 {
        let code = self.seed.code("epoch", &[&term.to_be_bytes()]);
        let (number, _) = code.split_at(8);
        number
            .iter()
            .fold(0, |epoch, byte| epoch << 8 | u64::from(*byte))
            .max(1)
    }
}

/// Compares secrets in a time that does not depend on where they differ.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn agent(port: u16) -> Upid {
        Upid::new("overlay-agent", ([10, 0, 0, 1], port).into())
    }

    #[test]
    fn a_token_is_valid_for_one_process_and_nonce_of_one_issuer() {
        let mut nonces = NonceSource::new(&Seed::from(1));
        let [nonce, other] = [nonces.draw(), nonces.draw()];
        assert!(nonce != other);
        let mut issuer = TokenIssuer::new(&Seed::from(2));
        let token = issuer.issue(Time::default(), &agent(1), &nonce);
        let issue = issuer.check(&token, &agent(1), &nonce);
        assert_eq!(issue, Some(issuer.last_issue()));
        assert_eq!(issuer.check(&token, &agent(2), &nonce), None);
        assert_eq!(issuer.check(&token, &agent(1), &other), None);
        let stranger = TokenIssuer::new(&Seed::from(3));
        assert_eq!(stranger.check(&token, &agent(1), &nonce), None);
        for index in 0..ISSUE + CODE {
            let mut changed = token;
            changed.0[index] ^= 1;
            assert_eq!(issuer.check(&changed, &agent(1), &nonce), None, "{index}");
        }
    }

    #[test]
    fn issues_grow_and_give_the_time() {
        let nonce = NonceSource::new(&Seed::from(1)).draw();
        let mut issuer = TokenIssuer::new(&Seed::from(2));
        let now = Time(Duration::from_secs(5));
        let issues = [now, now, Time::default()].map(|now| {
            let token = issuer.issue(now, &agent(1), &nonce);
            issuer.check(&token, &agent(1), &nonce).unwrap()
        });
        assert!(issues.is_sorted() && issues[0] < issues[1] && issues[1] < issues[2]);
        assert_eq!(issues[0].time(), now);
    }

    #[test]
    fn secrets_are_not_printed() {
        let nonce = NonceSource::new(&Seed::from(1)).draw();
        let token = TokenIssuer::new(&Seed::from(2)).issue(Time::default(), &agent(1), &nonce);
        assert_eq!(format!("{nonce:?} {token:?}"), "Nonce(…) Token(…)");
    }
}
