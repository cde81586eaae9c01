//! Names and ids, checked once at the edge.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock;

/// Path of an account below the host: `research`, `research/nightly-7`. The host itself is `host`.
///
/// A segment is a folder name in the cgroup tree too, so it keeps to `A-Z a-z 0-9 _ -` (the kernel's own
/// files there all have a dot), at most 64 of them. Cloned for every exchange, which copies nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountPath(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("`{0}` is not a name; use 1 to 64 letters, digits, `-` and `_`")]
    Segment(String),
    #[error("`host` is the name of the whole host's account; choose another")]
    Reserved,
    #[error("`{0}` is deeper than 8 accounts")]
    TooDeep(String),
}

impl AccountPath {
    pub const HOST: &str = "host";

    pub fn host() -> Self {
        Self(Self::HOST.into())
    }

    pub fn of_agent(name: &str) -> Result<Self, NameError> {
        segment(name)?;
        if name == Self::HOST { Err(NameError::Reserved) } else { Ok(Self(name.into())) }
    }

    /// The account `name` below this one.
    pub fn child(&self, name: &str) -> Result<Self, NameError> {
        if self.is_host() {
            return Self::of_agent(name);
        }
        segment(name)?;
        let path = format!("{}/{name}", self.0);
        if path.split('/').count() >= meter_common::PATH_DEPTH as usize {
            Err(NameError::TooDeep(path))
        } else {
            Ok(Self(path.into()))
        }
    }

    pub fn is_host(&self) -> bool {
        &*self.0 == Self::HOST
    }

    /// `None` for the host; the host for an agent.
    pub fn parent(&self) -> Option<Self> {
        if self.is_host() {
            return None;
        }
        Some(self.0.rsplit_once('/').map_or_else(Self::host, |(up, _)| Self(up.into())))
    }

    /// The account itself, and every one above it up to the host.
    pub fn line(&self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// Whether it lies below an agent.
    pub fn is_task(&self) -> bool {
        self.0.contains('/')
    }

    /// The agent this account belongs to: its first segment.
    pub fn agent_name(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The account of that agent; the host for the host.
    #[must_use]
    pub fn agent(&self) -> Self {
        Self(self.agent_name().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` is `above` or lies below it.
    pub fn is_within(&self, above: &Self) -> bool {
        above.is_host()
            || self == above
            || self.0.strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn segment(name: &str) -> Result<(), NameError> {
    let fits =
        (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits { Ok(()) } else { Err(NameError::Segment(name.to_owned())) }
}

impl FromStr for AccountPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == Self::HOST {
            return Ok(Self::host());
        }
        text.split('/').try_fold(Self::host(), |path, name| path.child(name))
    }
}

/// Ordered as its text.
impl Borrow<str> for AccountPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for AccountPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// Id of an exchange, of its hold and of its ledger row: a UUID v7, so ids sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExchangeId(pub uuid::Uuid);

impl ExchangeId {
    /// A new id. Ids made in one process ascend.
    ///
    /// What follows its time is random in the first of a process and counts from there (RFC 9562, section 6.2, method 2):
    /// to ask the kernel for random bytes takes longer than to decide on the exchange, and would be done under a lock.
    #[expect(clippy::new_without_default, reason = "a default id would be a different one each time")]
    pub fn new() -> Self {
        static LAST: Mutex<Option<Moment>> = Mutex::new(None);
        let now = u64::try_from(clock::now().micros() / 1_000).unwrap_or(0);
        let mut last = LAST.lock();
        let moment = last.map_or_else(Moment::random, |before| before.next(now));
        *last = Some(moment);
        Self(moment.uuid())
    }
}

/// What a UUID v7 is made of.
#[derive(Clone, Copy)]
struct Moment {
    /// Since the Unix epoch, 48 bits of it.
    millis: u64,
    /// What follows, in 74 bits.
    rest: u128,
}

impl Moment {
    /// The highest bit of its rest is 0, so that a process can't count to the end.
    fn random() -> Self {
        let id = uuid::Uuid::now_v7().as_u128();
        let (high, low) = (id >> 64 & LOW_12, id & LOW_62);
        Self { millis: u64::try_from(id >> 80).unwrap_or(0), rest: high << 62 | low }
    }

    /// A clock that was set back stands still here.
    fn next(self, now: u64) -> Self {
        Self { millis: self.millis.max(now), rest: self.rest + 1 }
    }

    fn uuid(self) -> uuid::Uuid {
        const VERSION: u128 = 7 << 76;
        const VARIANT: u128 = 0b10 << 62;
        let (high, low) = (self.rest >> 62 & LOW_12, self.rest & LOW_62);
        uuid::Uuid::from_u128(u128::from(self.millis) << 80 | VERSION | high << 64 | VARIANT | low)
    }
}

const LOW_12: u128 = (1 << 12) - 1;
const LOW_62: u128 = (1 << 62) - 1;

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A process: its id, and its start time so that a reused id is another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks since boot (`/proc/PID/stat`, field 22); 0 when it had ended before it could be read.
    #[serde(skip)]
    pub start_ticks: u64,
    /// Path of the executable, or the kernel's short name of the process where that could not be read.
    pub exe: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_know_their_place() {
        let task: AccountPath = "research/nightly-7".parse().unwrap();
        assert_eq!(task.agent_name(), "research");
        assert_eq!(task.parent().unwrap().as_str(), "research");
        assert_eq!(task.parent().unwrap().parent().unwrap(), AccountPath::host());
        assert_eq!(AccountPath::host().parent(), None);
        assert!(task.is_within(&AccountPath::of_agent("research").unwrap()));
        assert!(task.is_within(&AccountPath::host()));
        assert!(!AccountPath::of_agent("research2").unwrap().is_within(&AccountPath::of_agent("research").unwrap()));
    }

    #[test]
    fn ids_ascend_and_are_uuids_of_version_7_and_of_now() {
        let before = clock::now().micros() / 1_000;
        let ids: Vec<ExchangeId> = (0..10_000).map(|_| ExchangeId::new()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        for id in &ids {
            assert_eq!((id.0.get_version_num(), id.0.get_variant()), (7, uuid::Variant::RFC4122), "{id}");
            let millis = i64::try_from(id.0.as_u128() >> 80).unwrap();
            assert!((before - 60_000..=before + 60_000).contains(&millis), "{id}");
        }
    }

    #[test]
    fn an_id_carries_into_every_bit_and_never_goes_back() {
        let moment = |millis, rest| Moment { millis, rest };
        let carried = moment(5, LOW_62).next(5);
        assert!(carried.uuid() > moment(5, LOW_62).uuid());
        assert_eq!(carried.uuid().to_string(), "00000000-0005-7001-8000-000000000000");
        let set_back = carried.next(4);
        assert!(set_back.uuid() > carried.uuid());
        assert!(moment(6, 0).uuid() > set_back.uuid(), "time goes before the count");
        assert_ne!(Moment::random().rest, Moment::random().rest);
    }

    #[test]
    fn a_name_is_a_safe_folder_name() {
        for bad in ["", "a b", "cgroup.procs", "..", "a/../b", "a//b", "/a", "ü", &"x".repeat(65)] {
            assert!(bad.parse::<AccountPath>().is_err(), "{bad}");
        }
        assert_eq!(AccountPath::of_agent("host"), Err(NameError::Reserved));
        assert!("1/2/3/4/5/6/7".parse::<AccountPath>().is_ok());
        assert!("1/2/3/4/5/6/7/8".parse::<AccountPath>().is_err());
    }
}
