//! The commands of a page, as somebody types them who reads it from above to below.

/// A command of a page.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    /// The heading that it stands under.
    pub(crate) heading: String,
    pub(crate) line: String,
    /// Its words, the program's name first.
    pub(crate) words: Vec<String>,
    /// What the page says beside it.
    pub(crate) says: String,
}

/// Every command of the program in the blocks of shell, in order.
pub(crate) fn commands(page: &str) -> Vec<Typed> {
    let (mut is_code, mut heading, mut found) = (false, String::new(), Vec::new());
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = line == "```sh";
        } else if !is_code && line.starts_with("## ") {
            line.trim_start_matches("## ").clone_into(&mut heading);
        } else if is_code && line.starts_with("seawall ") {
            let (command, says) = line.split_once("  #").unwrap_or((line, ""));
            found.push(Typed {
                heading: heading.clone(),
                line: line.to_owned(),
                words: words(command),
                says: says.trim().to_owned(),
            });
        }
    }
    found
}

/// The words of a line, where quotes are plain double ones.
fn words(line: &str) -> Vec<String> {
    let quoted = line.split('"').enumerate();
    let words = quoted.flat_map(|(number, part)| match number % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}
