//! Pure: what a container may use of memory, swap, CPU time and processes, read from Docker's words.
//!
//! It does not know whether this host can enforce a limit: `container::delegation` does.

use crate::error::{ErrorKind, Fault};

/// The least memory Docker lets anyone ask for, in bytes: an init cannot start below.
pub const MEMORY_BYTES_MIN: u64 = 6 << 20;
/// The period in which `--cpus` is counted, in microseconds: Docker's.
pub const CPU_PERIOD_US: u64 = 100_000;
/// The least CPU time per period the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// The most processes the kernel counts to.
const PIDS_MAX: u64 = 1 << 22;
/// The longest number anyone needs to type, in bytes.
const TEXT_BYTES_MAX: usize = 32;

/// Why a limit is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not a number with a unit.
    #[error("`{text}` is not a size")]
    Size {
        /// What was typed.
        text: String,
    },
    /// Less memory than anything can run in.
    #[error("`{text}` of memory is less than 6 MiB")]
    MemoryTooSmall {
        /// What was typed.
        text: String,
    },
    /// Memory and swap together are less than memory alone.
    #[error("memory and swap together, `{text}`, are less than the memory alone")]
    SwapBelowMemory {
        /// What was typed.
        text: String,
    },
    /// A limit on memory and swap together, without one on memory.
    #[error("memory and swap together are limited to `{text}` but memory is not")]
    SwapAlone {
        /// What was typed.
        text: String,
    },
    /// Not a number of processors.
    #[error("`{text}` is not a number of processors")]
    Cpus {
        /// What was typed.
        text: String,
    },
    /// More processors than there are, or less than a hundredth of one.
    #[error("`{text}` processors are outside 0.01 to {usable}, the number this command may use")]
    CpusOutside {
        /// What was typed.
        text: String,
        /// How many processors may be used.
        usable: u32,
    },
    /// Not a number of processes.
    #[error("`{text}` is not a number of processes")]
    Pids {
        /// What was typed.
        text: String,
    },
}

impl Fault for LimitError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Size { .. } => "write a size as `64m`, `1.5g` or a number of bytes",
            Self::MemoryTooSmall { .. } => "ask for `6m` or more, or for `0`: no limit",
            Self::SwapBelowMemory { .. } => "`--memory-swap` counts memory too: the same value means no swap",
            Self::SwapAlone { .. } => "give `--memory` as well",
            Self::Cpus { .. } | Self::CpusOutside { .. } => "write the processors as `2` or `0.5`",
            Self::Pids { .. } => "write a number such as `100`, or `-1`: no limit",
        };
        vec![hint.to_owned()]
    }
}

/// CPU time per period, all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// What may be used in one period, in microseconds.
    pub quota_us: u64,
    /// The period, in microseconds.
    pub period_us: u64,
}

/// What a container may use. `None` is no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap alone, in bytes, as `memory.swap.max` has it; Docker's `--memory-swap` counts memory too.
    pub memory_swap_bytes: Option<u64>,
    /// CPU time.
    pub cpu_quota: Option<CpuQuota>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// One thing that can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Swap.
    Swap,
    /// CPU time.
    Cpu,
    /// Processes and threads.
    Pids,
}

impl Resource {
    /// Every resource, in the order they are told.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Swap, Self::Cpu, Self::Pids];

    /// The cgroup controller that enforces it.
    #[must_use]
    pub fn controller(self) -> &'static str {
        match self {
            Self::Memory | Self::Swap => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// What a person calls it.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::Cpu => "CPU time",
            Self::Pids => "processes",
        }
    }
}

impl Limits {
    /// The resources that are limited.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        let is_limited = |resource: &Resource| match resource {
            Resource::Memory => self.memory_bytes.is_some(),
            Resource::Swap => self.memory_swap_bytes.is_some(),
            Resource::Cpu => self.cpu_quota.is_some(),
            Resource::Pids => self.pids.is_some(),
        };
        Resource::ALL.into_iter().filter(is_limited).collect()
    }

    /// The same limits but this one: for a host that cannot enforce it, when the caller has said so
    /// to the person who asked.
    #[must_use]
    pub fn without(mut self, resource: Resource) -> Self {
        match resource {
            Resource::Memory => self.memory_bytes = None,
            Resource::Swap => self.memory_swap_bytes = None,
            Resource::Cpu => self.cpu_quota = None,
            Resource::Pids => self.pids = None,
        }
        self
    }

    /// Takes `--memory` and `--memory-swap` as typed, by Docker's rules: swap defaults to as much
    /// again as memory, `-1` is as much as the host has, the same value as memory is none.
    ///
    /// # Errors
    /// A text that is no size, less than 6 MiB, or two values that contradict each other.
    pub fn set_memory(&mut self, memory: Option<&str>, and_swap: Option<&str>) -> Result<(), LimitError> {
        let bytes = memory.map(size_bytes).transpose()?.filter(|bytes| *bytes > 0);
        if let (Some(bytes), Some(text)) = (bytes, memory)
            && bytes < MEMORY_BYTES_MIN
        {
            return Err(LimitError::MemoryTooSmall { text: text.to_owned() });
        }
        let unlimited = and_swap.is_some_and(|text| text.trim() == "-1");
        let both = and_swap.filter(|_| !unlimited);
        let both = both.map(|text| Ok((size_bytes(text)?, text))).transpose()?.filter(|(sum, _)| *sum > 0);
        self.memory_bytes = bytes;
        self.memory_swap_bytes = match (bytes, both) {
            (None, Some((_, text))) => return Err(LimitError::SwapAlone { text: text.to_owned() }),
            (Some(bytes), Some((sum, text))) => Some(
                sum.checked_sub(bytes)
                    .ok_or_else(|| LimitError::SwapBelowMemory { text: text.to_owned() })?,
            ),
            (bytes, None) if !unlimited => bytes,
            (_, None) => None,
        };
        Ok(())
    }

    /// Takes `--cpus` as typed; `0` is no limit.
    ///
    /// # Errors
    /// A text that is no number, or a number the `usable` processors cannot give.
    pub fn set_cpus(&mut self, text: &str, usable: u32) -> Result<(), LimitError> {
        let wrong = || LimitError::Cpus { text: text.to_owned() };
        let quota_us = decimal(text.trim(), CPU_PERIOD_US).ok_or_else(wrong)?;
        self.cpu_quota = match quota_us {
            0 if !text.contains(|c| ('1'..='9').contains(&c)) => None,
            _ if quota_us < CPU_QUOTA_US_MIN || quota_us > CPU_PERIOD_US * u64::from(usable) => {
                return Err(LimitError::CpusOutside { text: text.to_owned(), usable });
            }
            _ => Some(CpuQuota { quota_us, period_us: CPU_PERIOD_US }),
        };
        Ok(())
    }

    /// Takes `--pids-limit` as typed; `0` and everything below is no limit.
    ///
    /// # Errors
    /// A text that is no whole number, or one the kernel cannot count to.
    pub fn set_pids(&mut self, text: &str) -> Result<(), LimitError> {
        let wrong = || LimitError::Pids { text: text.to_owned() };
        let number: i64 = text.trim().parse().ok().ok_or_else(wrong)?;
        self.pids = match u64::try_from(number) {
            Ok(0) | Err(_) => None,
            Ok(pids) if pids > PIDS_MAX => return Err(wrong()),
            Ok(pids) => Some(pids),
        };
        Ok(())
    }
}

/// A size as Docker reads it: a number, perhaps with a fraction, and `b`, `k`, `m`, `g`, `t` or `p`,
/// each also as `kb` or `kib`; a thousand is always 1024. In bytes, rounded down.
///
/// # Errors
/// Everything else.
pub fn size_bytes(text: &str) -> Result<u64, LimitError> {
    let wrong = || LimitError::Size { text: text.to_owned() };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(wrong()),
    };
    // The kernel counts in signed 64 bits.
    decimal(number.strip_suffix(' ').unwrap_or(number), unit)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(wrong)
}

/// `text`, digits with perhaps one point, times `unit`, rounded down. Whole numbers all the way:
/// a float would make another quota of `0.29` than a person expects.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if text.len() > TEXT_BYTES_MAX || whole.len() + fraction.len() == 0 {
        return None;
    }
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // Digits after the eighteenth of a fraction are below one unit of anything we count.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let number = |part: &str| if part.is_empty() { Some(0) } else { part.parse::<u128>().ok() };
    let scaled = number(whole)?.checked_mul(scale)?.checked_add(number(fraction)?)?;
    u64::try_from(scaled.checked_mul(u128::from(unit))? / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(
        memory: Option<&str>,
        and_swap: Option<&str>,
    ) -> Result<(Option<u64>, Option<u64>), LimitError> {
        let mut limits = Limits::default();
        limits.set_memory(memory, and_swap)?;
        Ok((limits.memory_bytes, limits.memory_swap_bytes))
    }

    #[test]
    fn a_size_has_dockers_units() {
        for (text, bytes) in [
            ("0", 0),
            ("67108864", 64 << 20),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("7b", 7),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("0.0000000001g", 0),
        ] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "", " ", "m", ".", "-1", "+1", "1e3", "1.2.3m", "64mm", "64bb", "64 m b", "0x10", "9999p", "١m",
            "64mié",
        ] {
            assert_eq!(size_bytes(text), Err(LimitError::Size { text: text.to_owned() }), "{text}");
        }
        let long = "1".repeat(100);
        assert!(size_bytes(&long).is_err());
    }

    #[test]
    fn memory_and_swap_follow_dockers_rules() {
        let mib = |n: u64| Some(n << 20);
        assert_eq!(memory(None, None), Ok((None, None)));
        assert_eq!(memory(Some("0"), None), Ok((None, None)));
        assert_eq!(memory(Some("64m"), None), Ok((mib(64), mib(64))));
        assert_eq!(memory(Some("64m"), Some("0")), Ok((mib(64), mib(64))));
        assert_eq!(memory(Some("64m"), Some("64m")), Ok((mib(64), Some(0))));
        assert_eq!(memory(Some("64m"), Some("100m")), Ok((mib(64), mib(36))));
        assert_eq!(memory(Some("64m"), Some("-1")), Ok((mib(64), None)));
        assert_eq!(memory(None, Some("-1")), Ok((None, None)));
        assert_eq!(memory(Some("6m"), None), Ok((mib(6), mib(6))));
        let text = |text: &str| text.to_owned();
        assert_eq!(memory(Some("6291455"), None), Err(LimitError::MemoryTooSmall { text: text("6291455") }));
        assert_eq!(memory(Some("64m"), Some("63m")), Err(LimitError::SwapBelowMemory { text: text("63m") }));
        assert_eq!(memory(None, Some("64m")), Err(LimitError::SwapAlone { text: text("64m") }));
        assert_eq!(memory(Some("64m"), Some("-2")), Err(LimitError::Size { text: text("-2") }));
    }

    #[test]
    fn processors_become_a_quota_of_a_tenth_of_a_second() {
        let quota = |text: &str| {
            let mut limits = Limits::default();
            limits.set_cpus(text, 2).map(|()| limits.cpu_quota.map(|q| (q.quota_us, q.period_us)))
        };
        assert_eq!(quota("1.5"), Ok(Some((150_000, 100_000))));
        assert_eq!(quota("2"), Ok(Some((200_000, 100_000))));
        assert_eq!(quota("0.29"), Ok(Some((29_000, 100_000))));
        assert_eq!(quota(".01"), Ok(Some((1_000, 100_000))));
        assert_eq!(quota("0"), Ok(None));
        assert_eq!(quota("0.000"), Ok(None));
        for text in ["0.009", "0.0000001", "2.1", "3"] {
            assert_eq!(quota(text), Err(LimitError::CpusOutside { text: text.to_owned(), usable: 2 }));
        }
        for text in ["", "-1", "1/2", "NaN", "1e1", "one"] {
            assert_eq!(quota(text), Err(LimitError::Cpus { text: text.to_owned() }));
        }
    }

    #[test]
    fn a_limit_of_no_processes_is_no_limit() {
        let pids = |text: &str| {
            let mut limits = Limits::default();
            limits.set_pids(text).map(|()| limits.pids)
        };
        assert_eq!(pids("100"), Ok(Some(100)));
        assert_eq!(pids("0"), Ok(None));
        assert_eq!(pids("-1"), Ok(None));
        for text in ["", "many", "1.5", "5000000", "99999999999999999999"] {
            assert_eq!(pids(text), Err(LimitError::Pids { text: text.to_owned() }));
        }
    }

    #[test]
    fn what_is_limited_can_be_asked_and_taken_back() {
        let mut limits = Limits::default();
        assert_eq!(limits.resources(), []);
        limits.set_memory(Some("64m"), Some("-1")).unwrap();
        limits.set_pids("5").unwrap();
        assert_eq!(limits.resources(), [Resource::Memory, Resource::Pids]);
        assert_eq!(limits.without(Resource::Memory).resources(), [Resource::Pids]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in "\\PC{0,40}") {
            let mut limits = Limits::default();
            let _any = size_bytes(&text);
            let _any = limits.set_cpus(&text, 4);
            let _any = limits.set_pids(&text);
        }

        #[test]
        fn a_printed_number_of_bytes_is_read_back(bytes in 0..i64::MAX as u64) {
            proptest::prop_assert_eq!(size_bytes(&bytes.to_string()), Ok(bytes));
        }
    }
}
