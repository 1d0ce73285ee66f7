use super::*;

fn read(text: &str) -> Dotenv {
    parse(text, |name| {
        (name == "SET").then(|| "from the environment".to_owned())
    })
}

fn value(text: &str) -> Option<String> {
    read(text).variables.get("A").cloned()
}

/// Observed of python-dotenv 1.2.4, row by row.
#[test]
fn every_line_means_what_python_dotenv_says() {
    let table: &[(&str, Option<&str>)] = &[
        ("A = 1 ", Some("1")),
        ("export A=1", Some("1")),
        ("export\tA=1", Some("1")),
        ("exportA=1", None),
        ("A=x # c", Some("x")),
        ("A=x#c", Some("x#c")),
        ("A=x\t# c # d", Some("x")),
        ("A= # c", Some("")),
        ("A=#c", Some("#c")),
        ("A", None),
        ("A=", Some("")),
        ("A=\nB=2", Some("")),
        (r"A='x\ny'", Some(r"x\ny")),
        (r"A='it\'s \\ \d'", Some(r"it's \ \d")),
        (r#"A="x\ny""#, Some("x\ny")),
        (
            r#"A="\a\b\f\r\t\v\"\'\\""#,
            Some("\u{7}\u{8}\u{c}\r\t\u{b}\"'\\"),
        ),
        (r#"A="\u4e2d\q""#, Some(r"\u4e2d\q")),
        (r#"A="x\\" # c"#, Some(r"x\")),
        ("A=\"x\" junk", None),
        ("A=\"open", None),
        ("=x", None),
        ("A: 1", None),
        ("A=1\nA=2", Some("2")),
        ("A=1\nA", None),
        ("A=${B}\nB=2", Some("")),
        ("B=2\nA=x${B}y", Some("x2y")),
        ("A=${NOPE:-d}", Some("d")),
        ("A=${NOPE:-}", Some("")),
        ("A=${NOPE:d}", Some("${NOPE:d}")),
        ("A=$SET", Some("$SET")),
        ("A=${SET}", Some("from the environment")),
        ("SET=file\nA=${SET}", Some("from the environment")),
        ("A=${open", Some("${open")),
        ("A='${SET}'", Some("from the environment")),
        ("\u{feff}A=1", Some("1")),
        ("A=1\r\nB=2\r\n", Some("1")),
        ("A=1\rB=2", Some("1")),
        ("A=\"一\r\n二\"", Some("一\n二")),
        ("A='one\ntwo' # c\nB=1", Some("one\ntwo")),
        ("# A=2\n\n  A=1", Some("1")),
        ("A=值", Some("值")),
        ("A=a b  c ", Some("a b  c")),
        ("A=it's", Some("it's")),
    ];
    for (text, expected) in table {
        assert_eq!(value(text).as_deref(), *expected, "{text:?}");
    }
}

#[test]
fn keys_may_be_anything() {
    let variables = read("'A b'=1\nA.b-c=2\n变量=3").variables;
    let keys: Vec<&str> = variables.keys().map(String::as_str).collect();
    assert_eq!(keys, ["A b", "A.b-c", "变量"]);
}

#[test]
fn a_bad_line_is_named_and_costs_nothing_else() {
    let read = read("\n=x\nA: 1\nB=\"open\nC=\"x\" junk\nD=4");
    // The open quote of line 4 ends at the one of line 5, so both are one statement.
    assert_eq!(read.bad_lines, [2, 3, 4]);
    assert_eq!(read.variables, BTreeMap::from([("D".into(), "4".into())]));
}

#[test]
fn the_nearest_file_is_found_from_below() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("甲/乙");
    fs::create_dir_all(&below).unwrap();
    fs::create_dir(below.join(".env")).unwrap();
    fs::write(folder.path().join("甲/.env"), "A=1").unwrap();
    assert_eq!(find(&below), Some(folder.path().join("甲/.env")));
}
