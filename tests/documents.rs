//! Tables in documents are made from the program: parameters, commands, codes, registers, boards.

use faprompt_edge::board;
use faprompt_edge::control::docs;
use faprompt_edge::control::modbus::docs as modbus;

/// With `UPDATE_DOCUMENTS` set, writes the tables instead of comparing them.
fn in_step(document: &str, tables: &[(&str, String)]) {
    let path = format!("{}/{document}", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
        let from = text.find(&begin).expect("a mark") + begin.len();
        let to = text.find(&end).expect("a mark");
        if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
            text.replace_range(from..to, table);
            std::fs::write(&path, &text).unwrap();
        } else {
            let same = text[from..to] == **table;
            assert!(
                same,
                "{document}, {name}: run this test with UPDATE_DOCUMENTS=1"
            );
        }
    }
}

#[test]
fn parameters_commands_and_codes() {
    let tables = [
        ("parameters", docs::parameters()),
        ("commands", docs::commands()),
        ("codes", docs::codes()),
        ("alarms", docs::alarms()),
    ];
    in_step("src/control/README.md", &tables);
}

#[test]
fn registers() {
    let tables = [
        ("coils", modbus::coils()),
        ("discretes", modbus::discretes()),
        ("inputs", modbus::inputs()),
        ("holding", modbus::holding()),
        ("exceptions", modbus::exceptions()),
    ];
    in_step("src/control/MODBUS.md", &tables);
}

#[test]
fn boards() {
    in_step("README.md", &[("boards", board::readme_table().unwrap())]);
}
