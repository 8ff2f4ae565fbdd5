//! The reference in `docs/playbooks.md` is made from the schema; this is what makes it, and what tells when it is old.
//! `UPDATE_DOCS=1 cargo test --test playbook_docs` writes it anew.

#![cfg(test)]

use ibexdeploy::plan::TIMEOUTS;
use ibexdeploy::playbook::Playbook;
use serde_json::{Map, Value};
use std::fmt::Write;

const FILE: &str = "docs/playbooks.md";
const BEGIN: &str = "<!-- From here on made from the schema by tests/playbook_docs.rs. -->\n";

/// The schema, and how its parts are told.
struct Reference {
    schema: Value,
    text: String,
}

impl Reference {
    fn new() -> Self {
        Self { schema: schemars::schema_for!(Playbook).to_value(), text: String::new() }
    }

    fn definition(&self, name: &str) -> &Value {
        &self.schema["$defs"][name]
    }

    fn actions(&self) -> Vec<(String, String)> {
        let properties = self.definition("Step")["properties"].as_object().unwrap();
        let action = |(key, value): (&String, &Value)| {
            let name = target(value)?;
            TIMEOUTS.iter().any(|(action, _)| action == key).then(|| (key.clone(), name))
        };
        properties.iter().filter_map(action).collect()
    }

    fn write(mut self) -> String {
        let actions = self.actions();
        self.text.push_str("\n## The keys of a playbook\n\n");
        let top = self.schema["properties"].as_object().unwrap().clone();
        let required = required(&self.schema);
        self.table(&top, &required, &[]);
        self.text.push_str("\n## The keys of a step\n\nEach step has exactly one action, or `include`, and any of these:\n\n");
        let step = self.definition("Step").clone();
        let names: Vec<&str> = actions.iter().map(|(key, _)| key.as_str()).collect();
        self.table(step["properties"].as_object().unwrap(), &[], &names);
        for inner in ["Each", "OnFailure", "RunAs", "UndoSpec"] {
            self.inner(inner);
        }
        self.text.push_str("\n## The actions\n");
        for (key, name) in &actions {
            self.action(key, name);
        }
        self.text
    }

    fn action(&mut self, key: &str, name: &str) {
        let definition = self.definition(name).clone();
        let minutes = TIMEOUTS.iter().find(|(action, _)| action == &key).map_or(0, |(_, m)| *m);
        let _ = write!(self.text, "\n### `{key}`\n\n{}\n\n", said(&definition));
        self.table(definition["properties"].as_object().unwrap(), &required(&definition), &[]);
        let _ = write!(self.text, "\nOne attempt may take {minutes} min unless `timeout` says otherwise.\n");
        let mut inner: Vec<String> = Vec::new();
        self.find_inner(&definition, &mut inner);
        inner.iter().for_each(|name| self.inner(name));
    }

    /// The forms that the keys of a form have, in their order. `Command` inside `undo` is told at its own place.
    fn find_inner(&self, definition: &Value, found: &mut Vec<String>) {
        for value in definition["properties"].as_object().unwrap().values() {
            if let Some(name) = target(value).filter(|n| !SIMPLE.iter().any(|(simple, _)| simple == n)) {
                let inner = self.definition(&name);
                if !found.contains(&name) {
                    found.push(name.clone());
                    if inner["properties"].is_object() {
                        self.find_inner(inner, found);
                    }
                }
            }
        }
    }

    /// A form inside another: keys in a table, choices as a list.
    fn inner(&mut self, name: &str) {
        let definition = self.definition(name).clone();
        let title = spoken(name);
        let _ = write!(self.text, "\n**{title}.** {}\n\n", said(&definition));
        if let Some(properties) = definition["properties"].as_object() {
            self.table(properties, &required(&definition), &[]);
            return;
        }
        let choices = match definition["oneOf"].as_array() {
            Some(choices) => choices.clone(),
            None => vec![definition],
        };
        for choice in &choices {
            let keys = choice["properties"].as_object().map(|p| p.keys().map(|k| format!("`{k}:`")).collect::<Vec<_>>());
            let words = choice["enum"].as_array().map(|e| e.iter().map(|w| format!("`{}`", w.as_str().unwrap())).collect());
            let word = choice["const"].as_str().map(|w| vec![format!("`{w}`")]);
            let words = keys.or(words).or(word).unwrap_or_default().join(", ");
            let told = choice["description"].as_str().map_or(String::new(), |d| format!(": {}", one_line(d)));
            let _ = writeln!(self.text, "- {words}{told}");
        }
    }

    fn table(&mut self, properties: &Map<String, Value>, required: &[String], leave_out: &[&str]) {
        self.text.push_str("| key | value | meaning |\n| --- | --- | --- |\n");
        for (key, value) in properties.iter().filter(|(key, _)| !leave_out.contains(&key.as_str())) {
            let needed = if required.contains(key) { " (needed)" } else { "" };
            let own = value["description"].as_str().map(one_line);
            let of_form = target(value).map(|name| said(self.definition(&name)));
            let meaning = own.or(of_form).unwrap_or_else(|| match key.as_str() {
                "stage" | "apply" | "prove" | "close" => format!("The steps of the phase `{key}`."),
                _ => String::new(),
            });
            assert!(!meaning.is_empty(), "`{key}` has no description");
            let _ = writeln!(self.text, "| `{key}`{needed} | {} | {} |", kind(value), meaning.replace('|', "\\|"));
        }
    }
}

/// Forms that are a text in YAML, and what people call them.
const SIMPLE: [(&str, &str); 7] = [
    ("Place", "place"),
    ("Span", "duration"),
    ("Size", "size"),
    ("FreeSpace", "size or `auto`"),
    ("Count", "number"),
    ("Check", "as `check`"),
    ("Command", "as `command`"),
];

/// The definition that a value refers to.
fn target(value: &Value) -> Option<String> {
    let direct = value["$ref"].as_str();
    let optional = || value["anyOf"].as_array()?.iter().find_map(|v| v["$ref"].as_str());
    Some(direct.or_else(optional)?.rsplit('/').next()?.to_owned())
}

fn required(definition: &Value) -> Vec<String> {
    let names = definition["required"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect()
}

fn said(definition: &Value) -> String {
    one_line(definition["description"].as_str().unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `DiskCheck` as words: "disk check".
fn spoken(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    let words = words.trim_end_matches(" spec").to_owned();
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// What a value is, in a word or two.
fn kind(value: &Value) -> String {
    if let Some(name) = target(value) {
        let simple = SIMPLE.iter().find(|(simple, _)| *simple == name).map(|(_, word)| (*word).to_owned());
        return simple.unwrap_or_else(|| spoken(&name).to_lowercase());
    }
    let types = &value["type"];
    let first = types.as_str().or_else(|| types.as_array()?.iter().filter_map(Value::as_str).find(|t| *t != "null"));
    match first {
        Some("string") => "text".to_owned(),
        Some("boolean") => "true, false".to_owned(),
        Some("integer" | "number") => "number".to_owned(),
        Some("array") => match &value["items"] {
            items @ Value::Object(_) => format!("list of {}", kind(items)),
            _ => "list".to_owned(),
        },
        Some("object") => match &value["additionalProperties"] {
            inner @ Value::Object(_) => format!("map of {}", kind(inner)),
            _ => "map".to_owned(),
        },
        _ => "anything".to_owned(),
    }
}

#[test]
fn the_reference_is_what_the_schema_says() {
    let made = Reference::new().write();
    let file = std::fs::read_to_string(FILE).unwrap();
    let (introduction, stands) = file.split_once(BEGIN).expect("the marker line is in the file");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, format!("{introduction}{BEGIN}{made}")).unwrap();
        return;
    }
    assert!(stands == made, "{FILE} is not what the schema says: run UPDATE_DOCS=1 cargo test --test playbook_docs");
}

#[test]
fn the_examples_of_the_introduction_are_playbooks() {
    let file = std::fs::read_to_string(FILE).unwrap();
    let examples: Vec<&str> = file.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        let playbook = if example.starts_with("- ") { indented(example) } else { example.to_owned() };
        std::fs::write(folder.path().join("example.yaml"), &playbook).unwrap();
        let problems = ibexdeploy::playbook::problems(folder.path(), "example");
        assert_eq!(problems, [], "{playbook}");
    }
}

/// A list of steps as the phase `apply` of a playbook.
fn indented(steps: &str) -> String {
    let lines: Vec<String> = steps.lines().map(|line| format!("  {line}")).collect();
    format!("playbook: example\napply:\n{}\n", lines.join("\n"))
}
