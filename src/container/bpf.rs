//! Pure: decisions by system call number into a BPF program for the kernel, and its form on disk.
//!
//! It knows nothing of profiles: which call gets which decision is `container::seccomp`. It does not
//! load the program. The calls are found by a binary tree over ranges of equal decisions, because
//! the kernel's time to load a filter grows with its length.

use std::collections::BTreeMap;

use seccompiler::sock_filter;

use crate::container::syscalls::Arch;
use crate::error::{ErrorKind, Fault};

/// Longest program the kernel takes, in instructions (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;
/// `SECCOMP_RET_KILL_PROCESS`.
pub const KILL_PROCESS: u32 = 0x8000_0000;

/// First four bytes of a program on disk.
const MAGIC: &[u8; 4] = b"cbpf";
/// Bytes before the first instruction on disk: the magic and the load flags.
const HEADER_BYTES: usize = 8;
/// Bytes of one instruction, as `struct sock_filter`.
const INSTRUCTION_BYTES: usize = 8;
/// Farthest a conditional jump may be from an existing target before we put a nearer one; leaves room
/// below 255 for what one more target of the same jump may insert.
const NEAR_MAX: usize = 250;

// The instructions we use (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ABOVE: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

// Where the kernel puts what we look at (`struct seccomp_data`, little-endian).
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;
const DATA_BYTES: u32 = 64;

/// Why there is no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BpfError {
    /// The decisions need more instructions than the kernel takes.
    #[error("the filter needs more than {instructions_max} instructions")]
    TooLong {
        /// The kernel's limit.
        instructions_max: usize,
    },
    /// Bytes from disk are not a program that we wrote.
    #[error("stored filter is damaged: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Fault for BpfError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong { .. } => ErrorKind::Limit,
            Self::Damaged { .. } => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::TooLong { .. } => vec!["use fewer rules with `args` in the seccomp profile".to_owned()],
            Self::Damaged { .. } => Vec::new(),
        }
    }
}

/// How an argument is compared, as unsigned 64-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    /// `argument & mask == value & mask`.
    Masked {
        /// The bits that count.
        mask: u64,
    },
    /// `argument != value`.
    NotEqual,
    /// `argument > value`.
    Above,
    /// `argument >= value`.
    AtLeast,
    /// `argument < value`.
    Below,
    /// `argument <= value`.
    AtMost,
}

/// One question about one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// What it is compared with.
    pub value: u64,
}

/// A verdict that holds when all tests do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clause {
    /// The questions; all must hold.
    pub tests: Vec<Test>,
    /// What the filter then returns (`SECCOMP_RET_*` and its data).
    pub verdict: u32,
}

/// What is decided about one system call: the first clause that holds, else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// The clauses in the order they are asked.
    pub clauses: Vec<Clause>,
    /// What the filter returns when none holds.
    pub otherwise: u32,
}

impl Decision {
    /// The same verdict whatever the arguments are.
    pub fn always(verdict: u32) -> Self {
        Self { clauses: Vec::new(), otherwise: verdict }
    }
}

/// A filter that the kernel can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<sock_filter>,
    flags: u32,
}

impl Program {
    /// The instructions in order, at most [`INSTRUCTIONS_MAX`].
    pub fn instructions(&self) -> &[sock_filter] {
        &self.instructions
    }

    /// What to hand to seccomp(2) as `flags` (`SECCOMP_FILTER_FLAG_*`).
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// The program as bytes for a file: a magic word, the flags, then `struct sock_filter`s.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.instructions.len() * INSTRUCTION_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        for one in &self.instructions {
            bytes.extend_from_slice(&one.code.to_le_bytes());
            bytes.extend_from_slice(&[one.jt, one.jf]);
            bytes.extend_from_slice(&one.k.to_le_bytes());
        }
        bytes
    }

    /// The instructions alone, as the kernel's `struct sock_filter`s lie in memory.
    pub fn kernel_bytes(&self) -> Vec<u8> {
        let one = |i: &sock_filter| {
            let ([c0, c1], [k0, k1, k2, k3]) = (i.code.to_ne_bytes(), i.k.to_ne_bytes());
            [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
        };
        self.instructions.iter().flat_map(one).collect()
    }

    /// The program that [`Program::to_bytes`] wrote.
    ///
    /// The shape is checked, not the meaning: every instruction is one we write, every jump lands
    /// inside, and the end is a return. Who can write the file can write another filter.
    ///
    /// # Errors
    /// [`BpfError::Damaged`] when the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BpfError> {
        let damaged = |reason| BpfError::Damaged { reason };
        let rest = bytes.strip_prefix(MAGIC).ok_or(damaged("it does not begin with the magic word"))?;
        let (flags, rest) = rest.split_first_chunk::<4>().ok_or(damaged("it ends in the header"))?;
        let (chunks, left) = rest.as_chunks::<INSTRUCTION_BYTES>();
        if !left.is_empty() {
            return Err(damaged("it ends inside an instruction"));
        }
        if chunks.len() > INSTRUCTIONS_MAX {
            return Err(damaged("it is longer than the kernel takes"));
        }
        let instructions: Vec<sock_filter> = chunks
            .iter()
            .map(|[code_low, code_high, jt, jf, k @ ..]| sock_filter {
                code: u16::from_le_bytes([*code_low, *code_high]),
                jt: *jt,
                jf: *jf,
                k: u32::from_le_bytes(*k),
            })
            .collect();
        if instructions.last().is_none_or(|last| last.code != RETURN) {
            return Err(damaged("it does not end with a return"));
        }
        for (at, one) in instructions.iter().enumerate() {
            let after = instructions.len() - at - 1;
            let fits = |jump: usize| jump < after;
            let sound = match one.code {
                LOAD => one.k.is_multiple_of(4) && one.k < DATA_BYTES,
                JUMP => usize::try_from(one.k).is_ok_and(fits),
                JUMP_EQUAL | JUMP_ABOVE | JUMP_AT_LEAST => {
                    fits(usize::from(one.jt)) && fits(usize::from(one.jf))
                }
                AND | RETURN => true,
                _ => false,
            };
            if !sound {
                return Err(damaged("an instruction is not one of ours"));
            }
        }
        Ok(Self { instructions, flags: u32::from_le_bytes(*flags) })
    }
}

/// The program that gives each system call its decision. `ranges` begins at number 0 and is sorted: each
/// decision holds from its number up to the next one's. A call of any other architecture than `arch`
/// kills the process: the numbers mean something else there.
///
/// # Errors
/// [`BpfError::TooLong`] when the kernel would not take it.
///
/// # Panics
/// When `ranges` does not begin at 0: the caller's bug.
pub fn assemble(arch: Arch, ranges: &[(u32, &Decision)], flags: u32) -> Result<Program, BpfError> {
    assert_eq!(ranges.first().map(|(first, _)| *first), Some(0), "the ranges cover every number");
    let mut emitter = Emitter::default();
    let tree = emitter.tree(ranges)?;
    let number = emitter.load(OFFSET_NUMBER, tree)?;
    let checked = emitter.branch(JUMP_EQUAL, arch.audit_number(), number, Target::Verdict(KILL_PROCESS))?;
    emitter.load(OFFSET_ARCH, checked)?;
    emitter.reversed.reverse();
    Ok(Program { instructions: emitter.reversed, flags })
}

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// To a return of this value, wherever one is near.
    Verdict(u32),
    /// To the instruction at this index of the reversed program.
    At(usize),
}

/// Writes a program from its end to its beginning: a jump is only ever forward, so its target exists
/// when it is written.
#[derive(Debug, Default)]
struct Emitter<'a> {
    reversed: Vec<sock_filter>,
    /// The newest return of each value.
    returns: BTreeMap<u32, usize>,
    /// The code of each decision that looks at arguments: calls with equal rules share it.
    blocks: BTreeMap<&'a Decision, Target>,
}

impl<'a> Emitter<'a> {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Result<Target, BpfError> {
        if self.reversed.len() == INSTRUCTIONS_MAX {
            return Err(BpfError::TooLong { instructions_max: INSTRUCTIONS_MAX });
        }
        self.reversed.push(sock_filter { code, jt, jf, k });
        Ok(Target::At(self.reversed.len() - 1))
    }

    /// Instructions between the next one to be written and `at`.
    fn distance(&self, at: usize) -> usize {
        self.reversed.len() - at - 1
    }

    /// The same place as `target`, so near that the next instructions can jump to it.
    fn near(&mut self, target: Target) -> Result<usize, BpfError> {
        let old = match target {
            Target::At(at) => Some(at),
            Target::Verdict(value) => self.returns.get(&value).copied(),
        };
        if let Some(at) = old.filter(|at| self.distance(*at) <= NEAR_MAX) {
            return Ok(at);
        }
        match target {
            Target::Verdict(value) => {
                self.push(RETURN, 0, 0, value)?;
                self.returns.insert(value, self.reversed.len() - 1);
            }
            Target::At(at) => {
                let far = u32::try_from(self.distance(at)).unwrap_or(u32::MAX);
                self.push(JUMP, 0, 0, far)?;
            }
        }
        Ok(self.reversed.len() - 1)
    }

    /// Compares what is loaded with `k`.
    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Result<Target, BpfError> {
        if yes == no {
            return Ok(yes);
        }
        let (yes, no) = (self.near(yes)?, self.near(no)?);
        let offset = |at| u8::try_from(self.distance(at)).expect("`near` keeps targets below 255");
        let (jt, jf) = (offset(yes), offset(no));
        self.push(code, jt, jf, k)
    }

    /// Loads a word and goes on at `next`.
    fn load(&mut self, offset: u32, next: Target) -> Result<Target, BpfError> {
        let at = self.near(next)?;
        let distance = self.distance(at);
        if distance > 0 {
            self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))?;
        }
        self.push(LOAD, 0, 0, offset)
    }

    /// Finds the decision of the number that is loaded.
    fn tree(&mut self, ranges: &[(u32, &'a Decision)]) -> Result<Target, BpfError> {
        if let [(_, decision)] = ranges {
            return self.block(decision);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.tree(high)?;
        let below = self.tree(low)?;
        self.branch(JUMP_AT_LEAST, high[0].0, above, below)
    }

    fn block(&mut self, decision: &'a Decision) -> Result<Target, BpfError> {
        if let Some(known) = self.blocks.get(decision) {
            return Ok(*known);
        }
        let mut next = Target::Verdict(decision.otherwise);
        for clause in decision.clauses.iter().rev() {
            let mut then = Target::Verdict(clause.verdict);
            for test in clause.tests.iter().rev() {
                then = self.test(*test, then, next)?;
            }
            next = then;
        }
        self.blocks.insert(decision, next);
        Ok(next)
    }

    /// One question about 64 bits, asked of the two 32-bit halves.
    fn test(&mut self, test: Test, yes: Target, no: Target) -> Result<Target, BpfError> {
        let low_at = OFFSET_ARGUMENTS + 8 * u32::from(test.argument);
        let (high, low) = halves(test.value);
        match test.comparison {
            Comparison::Masked { mask } => {
                let (mask_high, mask_low) = halves(mask);
                let low_equal = self.word(low_at, mask_low, low, yes, no)?;
                self.word(low_at + 4, mask_high, high, low_equal, no)
            }
            Comparison::NotEqual => {
                let low_equal = self.word(low_at, u32::MAX, low, no, yes)?;
                self.word(low_at + 4, u32::MAX, high, low_equal, yes)
            }
            Comparison::Above => self.order(JUMP_ABOVE, low_at, (high, low), yes, no),
            Comparison::AtLeast => self.order(JUMP_AT_LEAST, low_at, (high, low), yes, no),
            Comparison::Below => self.order(JUMP_AT_LEAST, low_at, (high, low), no, yes),
            Comparison::AtMost => self.order(JUMP_ABOVE, low_at, (high, low), no, yes),
        }
    }

    /// Whether the word at `offset` equals `value` in the bits of `mask`.
    fn word(
        &mut self,
        offset: u32,
        mask: u32,
        value: u32,
        yes: Target,
        no: Target,
    ) -> Result<Target, BpfError> {
        if mask == 0 || yes == no {
            return Ok(yes);
        }
        let mut next = self.branch(JUMP_EQUAL, value & mask, yes, no)?;
        if mask != u32::MAX {
            next = self.push(AND, 0, 0, mask)?;
        }
        self.load(offset, next)
    }

    /// Whether 64 bits are above (or at least) a value: the high words decide unless they are equal.
    fn order(
        &mut self,
        code: u16,
        low_at: u32,
        (high, low): (u32, u32),
        yes: Target,
        no: Target,
    ) -> Result<Target, BpfError> {
        if yes == no {
            return Ok(yes);
        }
        let by_low = self.branch(code, low, yes, no)?;
        let by_low = self.load(low_at, by_low)?;
        let not_above = self.branch(JUMP_EQUAL, high, by_low, no)?;
        let by_high = self.branch(JUMP_ABOVE, high, yes, not_above)?;
        self.load(low_at + 4, by_high)
    }
}

/// The high and the low 32 bits.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
