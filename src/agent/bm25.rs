//! Which texts fit a question: Okapi BM25 and the cosine of TF-IDF vectors, over words.

use std::collections::HashMap;

/// How soon further occurrences of a word stop counting.
const K1: f64 = 1.2;
/// How much a text's length counts.
const B: f64 = 0.75;

/// English words that say nothing of what a text is about. In a pool of a few texts nothing else tells them from rare
/// ones, and two tasks would be alike because both have a `the`.
const FUNCTION_WORDS: [&str; 44] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "has", "have", "if",
    "in", "into", "is", "it", "its", "no", "not", "of", "on", "or", "so", "than", "that", "the", "then", "there",
    "this", "to", "was", "when", "which", "while", "will", "with", "you", "your", "we",
];

/// The words of a text, in lower case: runs of letters and digits in any script. Signs that stand for words or syllables
/// (Chinese, Japanese, Korean) are words of their own, since nothing separates words there.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let sign = matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}');
        if c.is_alphanumeric() && !sign {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if sign {
            words.push(c.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A text's words with how often each occurs, and how many there are.
struct Counted {
    of: HashMap<String, f64>,
    all: f64,
}

impl Counted {
    fn new(text: &str, without: &[&str]) -> Self {
        let mut of: HashMap<String, f64> = HashMap::new();
        let mut all = 0.0;
        for word in words(text).into_iter().filter(|word| !without.contains(&word.as_str())) {
            *of.entry(word).or_default() += 1.0;
            all += 1.0;
        }
        Self { of, all }
    }
}

/// In how many texts each word occurs.
fn spread<'a>(texts: impl Iterator<Item = &'a Counted>) -> HashMap<&'a str, f64> {
    let mut spread: HashMap<&str, f64> = HashMap::new();
    for word in texts.flat_map(|text| text.of.keys()) {
        *spread.entry(word).or_default() += 1.0;
    }
    spread
}

/// Okapi BM25 of each text for the question (k1 = 1.2, b = 0.75): 0 where no word is shared, without an upper bound.
///
/// With the inverse document frequency ln(1 + (N − n + 0.5) / (n + 0.5)), which is never below 0. After Robertson and
/// Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond* (2009). Every word of the question counts once.
pub fn bm25(question: &str, texts: &[&str]) -> Vec<f64> {
    let counted: Vec<Counted> = texts.iter().map(|text| Counted::new(text, &[])).collect();
    let spread = spread(counted.iter());
    let total = counted.len() as f64;
    let mean = (counted.iter().map(|text| text.all).sum::<f64>() / total.max(1.0)).max(1.0);
    let mut asked = words(question);
    asked.sort();
    asked.dedup();
    let score = |text: &Counted| {
        asked
            .iter()
            .filter_map(|word| Some((text.of.get(word)?, spread.get(word.as_str())?)))
            .map(|(here, anywhere)| {
                let rarity = (1.0 + (total - anywhere + 0.5) / (anywhere + 0.5)).ln();
                rarity * here * (K1 + 1.0) / (here + K1 * (1.0 - B + B * text.all / mean))
            })
            .sum()
    };
    counted.iter().map(score).collect()
}

/// How alike each text is to the question, from 0 (no word shared) to 1 (the same words, as often): the cosine of their
/// TF-IDF vectors, without English function words. A word weighs (1 + ln tf) · (1 + ln((1 + N) / (1 + n))), where N texts, the question among them, hold
/// it n times.
pub fn cosine(question: &str, texts: &[&str]) -> Vec<f64> {
    let asked = Counted::new(question, &FUNCTION_WORDS);
    let counted: Vec<Counted> = texts.iter().map(|text| Counted::new(text, &FUNCTION_WORDS)).collect();
    let spread = spread(counted.iter().chain([&asked]));
    let total = counted.len() as f64 + 1.0;
    let weight = |word: &str, times: f64| {
        let anywhere = spread.get(word).copied().unwrap_or_default();
        (1.0 + times.ln()) * (1.0 + ((1.0 + total) / (1.0 + anywhere)).ln())
    };
    // In the order of the words, so that sums are the same to the last bit wherever they are made.
    let weights = |text: &Counted| {
        let mut all: Vec<(String, f64)> = text.of.iter().map(|(word, n)| (word.clone(), weight(word, *n))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let length = |weights: &[(String, f64)]| weights.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
    let question = weights(&asked);
    let question_length = length(&question);
    counted
        .iter()
        .map(|text| {
            let own = weights(text);
            let product: f64 = question
                .iter()
                .filter_map(|(word, weight)| {
                    let at = own.binary_search_by(|(other, _)| other.cmp(word)).ok()?;
                    Some(weight * own.get(at)?.1)
                })
                .sum();
            let lengths = question_length * length(&own);
            if lengths > 0.0 { (product / lengths).clamp(0.0, 1.0) } else { 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_words_in_every_script() {
        assert_eq!(words("Fix `parse_line()`: ÄRGER, 2×3!"), ["fix", "parse", "line", "ärger", "2", "3"]);
        assert_eq!(words("строка 修正 tests"), ["строка", "修", "正", "tests"]);
        assert!(words(" \n—…").is_empty());
    }

    #[test]
    fn a_score_is_what_the_formula_says() {
        // N = 2, n = 1, both texts of two words: ln(1 + 1.5 / 1.5) · 2.2 / 2.2.
        let scores = bm25("parser", &["parser tests", "other things"]);
        assert!((scores[0] - 2.0_f64.ln()).abs() < 1e-12 && scores[1] == 0.0, "{scores:?}");
        // Asked twice, counted once; more often in the text, worth more, but less than in proportion.
        let twice = bm25("parser PARSER", &["parser parser", "other things"]);
        assert!(twice[0] > scores[0] && twice[0] < 2.0 * scores[0], "{twice:?}");
    }

    #[test]
    fn tasks_are_not_alike_because_both_have_a_the() {
        let pool = ["Fix the bug in the parser that drops the last field of a line"];
        assert_eq!(cosine("Translate the manual that is in the folder", &pool), [0.0]);
        let near = cosine("Fix the parser so that it keeps the quoted fields of a line", &pool)[0];
        assert!((0.25..0.5).contains(&near), "{near}");
    }

    #[test]
    fn the_rare_word_decides() {
        let texts = ["read a file of the project", "write a file of the project", "render a diagram of the project"];
        let scores = bm25("draw a diagram of a file", &texts);
        assert!(scores[2] > scores[0] && scores[2] > scores[1], "{scores:?}");
        assert!(bm25("anything", &[]).is_empty() && cosine("anything", &[]).is_empty());
    }

    proptest! {
        #[test]
        fn likeness_is_a_share_and_the_same_is_whole(a in "[1-5 ]{0,40}", b in "[1-5 ]{0,40}", c in ".{0,40}") {
            let scores = cosine(&a, &[&b, &c, &a]);
            prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
            let known = if words(&a).is_empty() { 0.0 } else { 1.0 };
            prop_assert!((scores[2] - known).abs() < 1e-9);
            prop_assert!(bm25(&a, &[&b, &c]).iter().all(|score| *score >= 0.0 && score.is_finite()));
        }
    }
}
