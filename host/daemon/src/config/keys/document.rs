//! `docs/configuration.md`, made from the table, and the tests that keep table, file and page together.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::super::{file, secrets, settings};
use super::*;
use crate::cli::Cli;

const PAGE: &str = include_str!("page.md");
const EXAMPLE: &str = include_str!("example.toml");

fn page() -> String {
    let mut page = PAGE.replace("{{example}}", EXAMPLE);
    let headings = PAGE.lines().filter_map(|line| line.strip_prefix("## `[")?.strip_suffix('`'));
    let tables = headings.map(|heading| {
        let heading = format!("[{heading}");
        format!("[`{heading}`](#{})", anchor(&heading))
    });
    page = page.replace("{{contents}}", &tables.collect::<Vec<_>>().join(", "));
    for Section { name, keys, .. } in SECTIONS {
        let mark = format!("{{{{{name}}}}}\n");
        assert!(page.contains(&mark), "the page has no {mark}");
        page = page.replace(&mark, &format!("{}\n", table(keys)));
    }
    let mut arguments =
        "| option | default | variable | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for Argument { option, variable, default, prose } in ARGUMENTS {
        let _ = writeln!(arguments, "| `{option}` | `{default}` | `{variable}` | {prose} |");
    }
    let mut environment = "| variable | meaning |\n| --- | --- |\n".to_owned();
    for Environment { variables, prose, .. } in ENVIRONMENT {
        let _ = writeln!(environment, "| `{}` | {prose} |", variables.replace(", ", "`, `"));
    }
    page = page.replace("{{arguments}}", &arguments);
    page = page.replace("{{environment}}", &environment);
    page = page.replace("{{secrets}}", &secrets_table());
    assert!(!page.contains("}}\n"), "every mark is filled in");
    let note = "<!-- Made by host/daemon/src/config/keys from its tables and page.md; UPDATE_EXPECT=1 rewrites it. -->\n";
    format!("{note}{page}")
}

fn table(keys: &[Key]) -> String {
    let with_variables = keys.iter().any(|key| key.variable.is_some());
    let mut table = match with_variables {
        true => "| key | default | variable | meaning |\n| --- | --- | --- | --- |\n".to_owned(),
        false => "| key | default | meaning |\n| --- | --- | --- |\n".to_owned(),
    };
    for Key { name, default, variable, prose } in keys {
        let default = match default {
            Default::Toml(value) => format!("`{value}`"),
            Default::Words(words) => (*words).to_owned(),
            Default::Required => "required".to_owned(),
        };
        let variable = match variable {
            Some(variable) if variable.is_secret() => {
                format!(" `{0}`, `{0}_FILE` |", variable.name)
            }
            Some(variable) => format!(" `{}` |", variable.name),
            None if with_variables => " |".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(table, "| `{name}` | {default} |{variable} {prose} |");
    }
    table
}

fn secrets_table() -> String {
    let mut rows = [
        "variable",
        "file, named by a variable",
        "systemd's `LoadCredential=`",
        "key",
        "file, named by a key",
    ]
    .map(|source| format!("| {source} |"));
    let mut head = "| source |".to_owned();
    for section in SECTIONS {
        for key in section.keys {
            let Some(Variable { name, read: Read::Secret { credential, .. } }) = &key.variable
            else {
                continue;
            };
            let path = format!("{}.{}", section.of_variables, key.name);
            let _ = write!(head, " `{path}` |");
            let cells = [
                (*name).to_owned(),
                format!("{name}_FILE"),
                (*credential).to_owned(),
                path.clone(),
                format!("{path}_file"),
            ];
            for (row, cell) in rows.iter_mut().zip(cells) {
                let _ = write!(row, " `{cell}` |");
            }
        }
    }
    let columns = head.matches('|').count() - 1;
    format!("{head}\n|{}\n{}\n", " --- |".repeat(columns), rows.join("\n"))
}

/// The anchor that a heading of Markdown gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn the_page_is_made_from_the_table() {
    expect_test::expect_file!["../../../../../docs/configuration.md"].assert_eq(&page());
}

#[test]
fn every_link_within_the_page_has_a_heading() {
    let page = page();
    let headings: BTreeSet<_> = page
        .lines()
        .filter(|line| line.starts_with("##"))
        .map(|line| anchor(line.trim_start_matches(['#', ' '])))
        .collect();
    for link in page.split("](#").skip(1) {
        let link = link.split(')').next().unwrap();
        assert!(headings.contains(link), "no heading for #{link}");
    }
}

/// The fields of a type, as its derived `Deserialize` names them.
fn fields_of<T: for<'de> Deserialize<'de>>() -> BTreeSet<&'static str> {
    struct Fields<'a>(&'a mut BTreeSet<&'static str>);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            Err(de::Error::custom("only the names"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("not a struct"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut fields = BTreeSet::new();
    let _ = T::deserialize(Fields(&mut fields));
    fields
}

#[test]
fn the_table_has_exactly_the_keys_that_the_file_accepts() {
    let sections: BTreeSet<_> = SECTIONS.iter().map(|section| section.name).collect();
    assert_eq!(sections, fields_of::<file::File>());
    for Section { name, keys, .. } in SECTIONS {
        let accepted = match *name {
            "server" => fields_of::<file::Server>(),
            "town" => fields_of::<file::Town>(),
            "log" => fields_of::<file::Log>(),
            "state" => fields_of::<file::State>(),
            "engine" => fields_of::<file::Engine>(),
            "evidence" => fields_of::<file::Evidence>(),
            "lease" => fields_of::<file::Lease>(),
            "ship" => fields_of::<file::Ship>(),
            "security" => fields_of::<crate::hardening::Security>(),
            "tools" => fields_of::<file::Tools>(),
            "workspaces" => fields_of::<file::Workspaces>(),
            "signals" => fields_of::<file::Signals>(),
            "limits" => fields_of::<file::Limits>(),
            "memory" => fields_of::<file::Memory>(),
            "budget" => fields_of::<file::Budget>(),
            "models" => fields_of::<file::Model>(),
            "secrets" => fields_of::<file::HttpSecret>(),
            "rigs" => fields_of::<file::Rig>(),
            "registries" => fields_of::<file::Registry>(),
            "components" => fields_of::<file::Component>(),
            "roles" => fields_of::<file::Role>(),
            "agents" => fields_of::<file::Agent>(),
            other => panic!("no type for [{other}]"),
        };
        let listed: BTreeSet<_> = keys.iter().map(|key| key.name).collect();
        assert_eq!((listed.len(), listed), (keys.len(), accepted), "[{name}]");
    }
}

/// What comes of a file, printed whole.
fn outcome(text: &str) -> String {
    let base = Path::new("/etc/bulkhead");
    let mut file = super::super::parse(text)
        .unwrap_or_else(|problem| panic!("{}", problem.show("FILE", text)));
    let outside = super::super::env::outside(|_| None).expect("no variables");
    let settings = secrets::settle(&mut file, base, |_| None)
        .and_then(|()| settings::check(file, base, &outside));
    format!("{:#?}", settings.unwrap_or_else(|problem| panic!("{}", problem.show("FILE", text))))
}

#[test]
fn each_default_of_the_table_holds_without_its_key() {
    let text = |with_defaults: bool| {
        let mut text = String::new();
        for Section { name, keys, .. } in SECTIONS {
            let (header, required) = match *name {
                "town" => {
                    ("[town]".to_owned(), "id = \"t\"\napi_url = \"http://h\"\ntoken = \"x\"\n")
                }
                "models" => ("[models.default]".to_owned(), "base_url = \"http://h\"\n"),
                "secrets" => (
                    "[secrets.github]".to_owned(),
                    "hosts = [\"api.github.com\"]\nvalue = \"12345678\"\n",
                ),
                "evidence" => ("[evidence]".to_owned(), "sink = \"http://h/evidence\"\n"),
                "lease" => ("[lease]".to_owned(), "register = \"file:///srv/register\"\n"),
                "ship" => ("[ship]".to_owned(), "to = \"file:///srv/place\"\n"),
                "rigs" => ("[rigs.demo]".to_owned(), "url = \"http://h/r.git\"\n"),
                "registries" => ("[registries.\"ghcr.io\"]".to_owned(), ""),
                "components" => ("[components.echo]".to_owned(), "path = \"echo.wasm\"\n"),
                "roles" => ("[roles.echo]".to_owned(), "component = \"echo\"\n"),
                "agents" => ("[[agents]]".to_owned(), "id = \"a\"\nrole = \"echo\"\n"),
                name => (format!("[{name}]"), ""),
            };
            let _ = write!(text, "{header}\n{required}");
            for Key { name, default, .. } in keys.iter().filter(|_| with_defaults) {
                if let Default::Toml(value) = default {
                    let _ = writeln!(text, "{name} = {value}");
                }
            }
        }
        text
    };
    assert_eq!(outcome(&text(true)), outcome(&text(false)));
}

#[test]
fn every_variable_of_the_command_line_is_listed_with_its_default() {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("a command");
    let mut found = BTreeSet::new();
    for argument in run.get_arguments() {
        let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else { continue };
        let option = format!("--{}", argument.get_long().expect("an option"));
        let row = ARGUMENTS
            .iter()
            .find(|row| row.option == option)
            .unwrap_or_else(|| panic!("{option} is not listed"));
        let default: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if default.is_empty() { "false".to_owned() } else { default.join(" ") };
        assert_eq!((row.variable, row.default), (variable, &*default), "{option}");
        found.insert(option);
    }
    assert_eq!(found.len(), ARGUMENTS.len());
}

#[test]
fn the_help_lists_every_variable() {
    let mut cli = Cli::command();
    let help = cli.render_help().to_string();
    let keys = SECTIONS.iter().flat_map(|section| section.keys);
    let names = keys.filter_map(|key| Some(key.variable.as_ref()?.name));
    let names = names.chain(ARGUMENTS.iter().map(|row| row.variable));
    for name in names.chain(ENVIRONMENT.iter().flat_map(|row| row.variables.split(", "))) {
        assert!(help.contains(name), "{name}");
    }
}

#[test]
fn the_example_is_accepted_and_short() {
    assert!(EXAMPLE.lines().count() <= 16);
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let text = EXAMPLE.replace("/run/secrets/control-token", token.to_str().unwrap());
    assert!(outcome(&text).contains("assistant-1"));
}

/// A value that each variable takes.
fn value(variable: &Variable) -> OsString {
    match variable.name {
        "BULKHEAD_LISTEN" | "BULKHEAD_PROBE_LISTEN" => "127.0.0.1:9",
        "BULKHEAD_LOG_FORMAT" => "json",
        "BULKHEAD_LOG_LEVEL" => "warn",
        "BULKHEAD_SIGINT" => "drain",
        "BULKHEAD_MCP" => "change",
        "BULKHEAD_DRAIN_MS" => "7",
        "BULKHEAD_ALLOWED_HOSTS" => "town.example",
        _ => "http://h",
    }
    .into()
}

#[test]
fn every_variable_changes_the_file() {
    let keys = SECTIONS.iter().flat_map(|section| section.keys);
    let variables: Vec<_> = keys.filter_map(|key| key.variable.as_ref()).collect();
    for changed in variables {
        let base = "[models.default]\nbase_url = \"http://other\"";
        let mut file: file::File = super::super::parse(base).expect("a file");
        let before = format!("{file:?}");
        let lookup = |name: &str| (name == changed.name).then(|| value(changed));
        // A secret shows nothing of itself, but whether there is one.
        super::super::env::apply(&mut file, lookup).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(format!("{file:?}"), before, "{}", changed.name);
    }
}
