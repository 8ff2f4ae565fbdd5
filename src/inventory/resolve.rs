//! Settings become an instrument: templates are rendered, paths and hosts checked.

mod reach;

use super::file::{Kits, Layout, SecretSource, Session, Settings, Transport};
use super::merge::{Merged, Origin};
use super::{Instrument, KitTransfer, names, placed, secrets};
use crate::error::{Error, IoContext, Result, SourcePosition};
use crate::nearest::nearest;
use crate::paths::WinPath;
use crate::plan::{Account, KitFolder, Pull, TransportSpec};
use crate::template::{self, Context};
use crate::yaml::{Tree, pointer_part};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Makes an instrument of its merged settings; `folder` is the inventory's own.
///
/// # Errors
/// With the place of the value that is not right.
pub(super) fn resolve(name: &str, merged: Merged, tree: &Tree, folder: &Path) -> Result<Instrument> {
    let Merged { settings, groups, origins } = merged;
    let here = Here { name, tree, origins: &origins };
    let groups: BTreeSet<String> = groups.into_iter().collect();
    let mut context: Context = BTreeMap::from([
        ("name".to_owned(), json!(name)),
        ("inst".to_owned(), json!(names::short(name))),
        ("groups".to_owned(), json!(groups)),
    ]);
    let vars = here.vars(&settings.vars, &context)?;
    context.extend(vars.clone());
    let host = here.host(&settings, &context)?;
    context.insert("host".to_owned(), json!(host));
    let places = here.places(&settings, &context)?;
    let (transport, transport_settings) = here.transport(&settings, &context, &host, folder)?;
    Ok(Instrument {
        name: name.to_owned(),
        accounts: here.accounts(&settings, &context)?,
        kits: here.kits(&settings, &context, folder)?,
        versions: here.versions(&settings, &context)?,
        secrets: here.secrets(&settings, folder)?,
        position: here.position("").unwrap_or_else(|| here.nowhere()),
        host,
        groups,
        places,
        vars,
        transport,
        transport_settings,
        seci: settings.seci,
        origins,
    })
}

/// The instrument that is being resolved, for errors.
struct Here<'a> {
    name: &'a str,
    tree: &'a Tree,
    origins: &'a BTreeMap<String, Origin>,
}

impl Here<'_> {
    fn position(&self, pointer: &str) -> Option<SourcePosition> {
        match self.origins.get(pointer) {
            Some(origin) => self.tree.position(&origin.pointer),
            None => self.tree.key_position(&format!("/instruments/{}", pointer_part(self.name))),
        }
    }

    fn nowhere(&self) -> SourcePosition {
        SourcePosition { file: self.tree.file().to_owned(), line: 1, column: 1, excerpt: None }
    }

    /// An error at a value. What comes from defaults or a group is wrong for this instrument only, perhaps.
    fn wrong(&self, pointer: &str, error: Error) -> Error {
        let shared = self.origins.get(pointer).is_some_and(|o| o.layer != super::Layer::Instrument);
        let error = if shared { error.on_host(self.name) } else { error };
        placed(error, self.position(pointer))
    }

    fn render(&self, pointer: &str, text: &str, context: &Context) -> Result<String> {
        template::try_render(text, context).map_err(|fault| {
            let next = match fault.next.strip_prefix("give it a value under `vars:`") {
                Some(_) => format!(
                    "give it a value under `vars:` in the inventory; known here are: {}",
                    context.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
                None => fault.next,
            };
            self.wrong(pointer, Error::bad_input(format!("{} in `{text}`", fault.message)).next(next))
        })
    }

    /// Renders every text inside a value.
    fn render_value(&self, pointer: &str, value: &Value, context: &Context) -> Result<Value> {
        Ok(match value {
            Value::String(text) => Value::String(self.render(pointer, text, context)?),
            Value::Array(items) => {
                // A list has one origin, that of the whole.
                Value::Array(items.iter().map(|v| self.render_value(pointer, v, context)).collect::<Result<_>>()?)
            }
            Value::Object(map) => {
                let mut rendered = serde_json::Map::new();
                for (key, value) in map {
                    let below = format!("{pointer}/{}", pointer_part(key));
                    // Inside a list nothing has an origin of its own.
                    let at = if self.origins.keys().any(|o| o.starts_with(&below)) { &below } else { pointer };
                    rendered.insert(key.clone(), self.render_value(at, value, context)?);
                }
                Value::Object(rendered)
            }
            other => other.clone(),
        })
    }

    /// Renders the variables, those first that others use.
    fn vars(&self, vars: &BTreeMap<String, Value>, context: &Context) -> Result<BTreeMap<String, Value>> {
        let mut waiting: BTreeMap<&str, (&Value, BTreeSet<String>)> = BTreeMap::new();
        for (name, value) in vars {
            let uses = used_names(value).into_iter().filter(|n| vars.contains_key(n)).collect();
            waiting.insert(name, (value, uses));
        }
        let mut known = context.clone();
        let mut rendered = BTreeMap::new();
        while !waiting.is_empty() {
            let ready: Vec<&str> =
                waiting.iter().filter(|(_, (_, uses))| uses.iter().all(|u| rendered.contains_key(u))).map(|(n, _)| *n).collect();
            if ready.is_empty() {
                return Err(self.circle(&waiting.keys().copied().collect::<Vec<_>>()));
            }
            for name in ready {
                if let Some((value, _)) = waiting.remove(name) {
                    let value = self.render_value(&format!("/vars/{name}"), value, &known)?;
                    known.insert(name.to_owned(), value.clone());
                    rendered.insert(name.to_owned(), value);
                }
            }
        }
        Ok(rendered)
    }

    fn circle(&self, names: &[&str]) -> Error {
        let error = Error::bad_input(format!("variables use each other in a circle: {}", names.join(", ")))
            .next("give one of them a value that does not use the others");
        self.wrong(&format!("/vars/{}", names.first().unwrap_or(&"")), error)
    }

    fn host(&self, settings: &Settings, context: &Context) -> Result<String> {
        // The bare name is what the site's own name service knows.
        let host = self.render("/host", settings.host.as_deref().unwrap_or("{{ name }}"), context)?;
        match names::host_problem(&host) {
            None => Ok(host),
            Some(problem) => {
                let error = Error::bad_input(format!("`{host}` is not a host name: {problem}"))
                    .next("write a machine's name or address; a port belongs into the transport's settings");
                Err(self.wrong("/host", error))
            }
        }
    }

    fn places(&self, settings: &Settings, context: &Context) -> Result<BTreeMap<String, WinPath>> {
        let mut places = BTreeMap::new();
        for (place, text) in &settings.places {
            places.insert(place.clone(), self.path(&format!("/places/{place}"), &format!("the place `{place}`"), text, context)?);
        }
        Ok(places)
    }

    fn path(&self, pointer: &str, what: &str, text: &str, context: &Context) -> Result<WinPath> {
        let text = self.render(pointer, text, context)?;
        WinPath::parse(&text).map_err(|_| {
            let error = Error::bad_input(format!("{what} is `{text}`, which is not an absolute Windows path"))
                .next("write it as C:\\folder or \\\\server\\share\\folder, without quotes or in single quotes");
            self.wrong(pointer, error)
        })
    }

    fn accounts(&self, settings: &Settings, context: &Context) -> Result<BTreeMap<String, Account>> {
        let mut accounts = BTreeMap::new();
        for (name, account) in &settings.accounts {
            let Some(user) = &account.user else {
                let error =
                    Error::bad_input(format!("the account `{name}` has no `user`")).next("add `user:`, here or in `defaults:`");
                return Err(self.wrong(&format!("/accounts/{name}/session"), error));
            };
            let user = self.render(&format!("/accounts/{name}/user"), user, context)?;
            let logged_on = account.session == Some(Session::LoggedOn);
            accounts.insert(name.clone(), Account { user, logged_on });
        }
        Ok(accounts)
    }

    fn kits(&self, settings: &Settings, context: &Context, folder: &Path) -> Result<KitTransfer> {
        let Some(Kits::Pull(pull)) = &settings.kits else { return Ok(KitTransfer::Push) };
        let at = |key: &str| format!("/kits/pull/{key}");
        let wrong = |key: &str, what: String, next: &str| Err(self.wrong(&at(key), Error::bad_input(what).next(next)));
        let from = KitFolder::parse(&self.render(&at("from"), &pull.from, context)?).map_err(|e| self.wrong(&at("from"), e))?;
        let user = pull.user.as_ref().map(|user| self.render(&at("user"), user, context)).transpose()?;
        match (&user, &pull.password) {
            (None, Some(_)) => {
                return wrong("password", "whose password it is, nobody says".into(), "add `user`, or leave it out");
            }
            (Some(user), None) => {
                let next = "name the secret with that user's password under `password`, or leave `user` out";
                return wrong("user", format!("{user} needs a password"), next);
            }
            _ => {}
        }
        if let Some(secret) = pull.password.as_ref().filter(|secret| !settings.secrets.contains_key(*secret)) {
            return Err(self.wrong(&at("password"), secrets::unknown(secret, settings.secrets.keys())));
        }
        if pull.ca.is_some() && matches!(from, KitFolder::Share(_)) {
            return wrong("ca", "a share has no certificate".to_owned(), "leave it out");
        }
        let ca = self.file(&at("ca"), folder, pull.ca.clone())?;
        let ca = ca.map(|file| std::fs::read_to_string(&file).cannot(|| format!("read {}", file.display())));
        let ca = ca.transpose().map_err(|e| self.wrong(&at("ca"), e.next("name the authority's certificate, as PEM")))?;
        Ok(KitTransfer::Pull(Pull { from, user, password: pull.password.clone(), ca }))
    }

    fn versions(&self, settings: &Settings, context: &Context) -> Result<Option<WinPath>> {
        let Some(Layout::Linked(linked)) = &settings.layout else { return Ok(None) };
        self.path("/layout/linked/versions", "the folder of versions", &linked.versions, context).map(Some)
    }

    fn transport(&self, settings: &Settings, context: &Context, host: &str, folder: &Path) -> Result<(TransportSpec, Value)> {
        let Some(transport) = &settings.transport else {
            let error = Error::bad_input(format!("nothing says how to reach {}", self.name))
                .next("give it a `transport:`, for example {ssh: {user: gamekeeper}}, best under `defaults:`");
            return Err(placed(error, self.position("")));
        };
        let data = serde_json::to_value(transport).map_err(|e| Error::internal("cannot write a transport").because(e))?;
        let rendered = self.render_value("/transport", &data, context)?;
        let (name, named) = match transport {
            Transport::Local(_) => ("local", vec![]),
            Transport::Ssh(ssh) => ("ssh", vec![("password", &ssh.password), ("passphrase", &ssh.passphrase)]),
            Transport::Winrm(winrm) => ("winrm", vec![("password", &winrm.password)]),
        };
        let unknown =
            |(_, secret): &(&str, &Option<String>)| secret.as_ref().is_some_and(|secret| !settings.secrets.contains_key(secret));
        if let Some((key, Some(secret))) = named.into_iter().find(unknown) {
            let next = match nearest(secret, settings.secrets.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("say where it comes from under `secrets:`, for example {secret}: {{prompt: Password}}"),
            };
            let error = Error::bad_input(format!("there is no secret `{secret}`")).next(next);
            return Err(self.wrong(&format!("/transport/{name}/{key}"), error));
        }
        let spec = match serde_json::from_value(rendered.clone()) {
            Ok(Transport::Local(local)) => TransportSpec::Local { root: folder.join(local.root) },
            Ok(Transport::Ssh(ssh)) => TransportSpec::Ssh(Box::new(self.ssh(ssh, host, folder)?)),
            Ok(Transport::Winrm(winrm)) => TransportSpec::Winrm(Box::new(self.winrm(winrm, host, folder)?)),
            Err(e) => return Err(Error::internal("cannot read a transport again").because(e)),
        };
        Ok((spec, rendered))
    }

    fn secrets(&self, settings: &Settings, folder: &Path) -> Result<BTreeMap<String, SecretSource>> {
        let mut secrets = BTreeMap::new();
        for (name, source) in &settings.secrets {
            let empty = match source {
                SecretSource::Env(text) | SecretSource::File(text) | SecretSource::Prompt(text) => text.is_empty(),
                SecretSource::Command(words) => words.first().is_none_or(String::is_empty),
            };
            if empty {
                let kind = source.kind();
                let error = Error::bad_input(format!("the secret `{name}` has an empty `{kind}`"))
                    .next("say where it comes from: {env: NAME}, {file: PATH}, {prompt: TEXT} or {command: [PROGRAM, ARGUMENT]}");
                return Err(self.wrong(&format!("/secrets/{name}/{kind}"), error));
            }
            let source = match source {
                SecretSource::File(path) if !path.starts_with('~') => SecretSource::File(folder.join(path).display().to_string()),
                other => other.clone(),
            };
            secrets.insert(name.clone(), source);
        }
        Ok(secrets)
    }
}

/// The names that the templates inside a value use. A template that cannot be read has none: rendering says why.
fn used_names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => template::names(text).unwrap_or_default(),
        Value::Array(items) => items.iter().flat_map(used_names).collect(),
        Value::Object(map) => map.values().flat_map(used_names).collect(),
        _ => BTreeSet::new(),
    }
}
