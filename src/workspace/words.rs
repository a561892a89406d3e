//! Pure: the words of a text, as programs have them: `openFile`, `open_file` and `open-file` are `open` and `file`.
//!
//! It knows no language, neither of people nor of machines, beyond words that say nothing anywhere.

/// Shortest word that counts, in characters.
const WORD_CHARS_MIN: usize = 3;
/// Longest word that counts, in bytes: beyond are keys and hashes.
pub const WORD_BYTES_MAX: usize = 48;
/// Words of questions that say nothing about files.
const EMPTY: &[&str] = &[
    "the", "and", "for", "that", "this", "with", "from", "into", "not", "are", "was", "were", "has", "have",
    "had", "will", "would", "should", "could", "can", "may", "must", "when", "where", "what", "which", "who",
    "how", "why", "all", "any", "each", "more", "most", "other", "some", "such", "than", "then", "there",
    "these", "they", "its", "use", "uses", "used", "using", "add", "adds", "added", "fix", "fixes", "fixed",
    "make", "makes", "made", "now", "one", "two", "new", "old", "also", "only", "but", "does", "did", "done",
    "let", "lets", "let's", "please", "change", "changes", "changed", "update", "updates", "updated",
    "remove", "removes", "removed", "file", "files", "code", "instead", "before", "after", "still", "own",
    "out", "our", "their", "his", "her", "you", "your", "without",
];

/// Calls `take` with every name of a text: letters, digits and `_` in one run.
pub fn names(text: &[u8], take: &mut dyn FnMut(&[u8])) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    for name in text.split(|byte| !is_part(byte)) {
        if (WORD_CHARS_MIN..=WORD_BYTES_MAX).contains(&name.len()) && !name[0].is_ascii_digit() {
            take(name);
        }
    }
}

/// Calls `take` with every word of a name, in small letters, the name itself first when it has several.
pub fn parts(name: &[u8], take: &mut dyn FnMut(&str)) {
    let mut whole = String::new();
    let mut words: Vec<String> = vec![String::new()];
    let mut before = '_';
    let text = String::from_utf8_lossy(name);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // `openFile` and `HTTPServer`: a capital begins a word after a small letter or before one.
        let begins = c.is_uppercase()
            && (before.is_lowercase()
                || before.is_ascii_digit()
                || rest.peek().is_some_and(|next| next.is_lowercase()));
        if !c.is_alphanumeric() || begins {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
            whole.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| word.chars().count() >= WORD_CHARS_MIN);
    if words.len() != 1 && whole.chars().count() >= WORD_CHARS_MIN {
        take(&whole);
    }
    words.iter().for_each(|word| take(stem(word)));
}

/// A word without the endings that only grammar gives it.
fn stem(word: &str) -> &str {
    for ending in ["ings", "ing", "ies", "es", "ed", "s"] {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() >= 4
        {
            return stem;
        }
    }
    word
}

/// The words of a question, each once, those that say nothing left out.
pub fn of_question(text: &str, words_max: usize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    names(text.as_bytes(), &mut |name| {
        let lower = String::from_utf8_lossy(name).to_lowercase();
        if EMPTY.contains(&lower.as_str()) {
            return;
        }
        parts(name, &mut |word| {
            if found.len() < words_max && !EMPTY.contains(&word) && !found.iter().any(|known| known == word) {
                found.push(word.to_owned());
            }
        });
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_fashion_have_the_same_words() {
        let of = |name: &str| {
            let mut words = Vec::new();
            parts(name.as_bytes(), &mut |word| words.push(word.to_owned()));
            words
        };
        for name in ["openSomeFile", "open_some_file", "OpenSomeFile", "open-some-file"] {
            assert_eq!(of(name), ["opensomefile", "open", "some", "file"], "{name}");
        }
        assert_eq!(of("HTTPServer"), ["httpserver", "http", "server"]);
        assert_eq!(of("searching"), ["search"]);
        assert_eq!(of("ab"), Vec::<String>::new());
    }

    #[test]
    fn a_question_loses_what_says_nothing() {
        assert_eq!(
            of_question("Fix the FIFO reads when the server is searching", 10),
            ["fifo", "read", "server", "search"]
        );
        assert_eq!(of_question("aaa bbb ccc", 2).len(), 2);
    }
}
