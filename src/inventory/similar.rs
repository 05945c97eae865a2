//! "did you mean": the candidate that a wrong word most likely stands for.

/// Longer words are not compared: the comparison is quadratic.
const LONGEST_WORD: usize = 64;

/// The nearest candidate, if one is near enough to be worth saying: a third of the letters may differ.
pub fn similar<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(word);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "`a`, `b` or `c`".
pub fn choices<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_only() {
        let keys = ["firewall", "login", "swap", "size_mib"];
        assert_eq!(similar("firewal", keys), Some("firewall"));
        assert_eq!(similar("size-mib", keys), Some("size_mib"));
        assert_eq!(similar("lgoin", keys), Some("login"));
        assert_eq!(similar("postgres", keys), None);
        assert_eq!(similar("", keys), None);
    }

    #[test]
    fn lists() {
        assert_eq!(choices(["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(choices(["a"]), "`a`");
    }
}
