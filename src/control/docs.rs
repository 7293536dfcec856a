//! Tables of the README, made of the parameter table, the commands and the codes.

use super::command::VERBS;
use super::refusal::CODES;
use super::table::{Register, TABLE};
use std::fmt::Write;

/// Every parameter.
pub fn parameters() -> String {
    let mut text = String::from(
        "| name | range | unit | default | level | scope | takes effect | register | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for e in TABLE {
        let register = match e.register {
            None => String::new(),
            Some(Register::One(at)) => at.to_string(),
            Some(Register::Two(at)) => format!("{at}, {}", at + 1),
        };
        let default = e.default_value();
        let range = e.range().to_string().replace('|', ", ");
        let _ = writeln!(
            text,
            "| `{}` | {range} | {} | {} | {} | {} | {} | {register} | {} |",
            e.name,
            e.unit,
            e.show(&default),
            e.access.name(),
            e.scope.name(),
            e.effect.name(),
            e.help
        );
    }
    text
}

/// Every command.
pub fn commands() -> String {
    let mut text = String::from("| command | level | |\n|---|---|---|\n");
    for v in VERBS {
        let usage = v.usage.replace('|', "\\|");
        let _ = writeln!(text, "| `{usage}` | {} | {} |", v.access.name(), v.help);
    }
    text
}

/// Every code of a refusal.
pub fn codes() -> String {
    let mut text = String::from("| code | |\n|---|---|\n");
    for code in CODES {
        let _ = writeln!(text, "| {} | {} |", code.number(), code.text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `UPDATE_README` set, writes the tables instead of comparing them.
    #[test]
    fn the_readme_is_in_step() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/README.md");
        let mut readme = std::fs::read_to_string(path).unwrap();
        for (name, table) in [
            ("parameters", parameters()),
            ("commands", commands()),
            ("codes", codes()),
        ] {
            let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
            let from = readme.find(&begin).expect("a mark") + begin.len();
            let to = readme.find(&end).expect("a mark");
            if std::env::var_os("UPDATE_README").is_some() {
                readme.replace_range(from..to, &table);
                std::fs::write(path, &readme).unwrap();
            } else {
                assert_eq!(readme[from..to], table, "run the test with UPDATE_README=1");
            }
        }
    }
}
