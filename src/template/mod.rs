//! Templates in playbooks: `{{ name }}` in text, expressions in `when`. Strict on both sides of the link: a name that
//! is not defined is an error, never an empty text.

mod fault;

pub use fault::Fault;

use crate::error::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The names that a template can use, with their values.
pub type Context = BTreeMap<String, serde_json::Value>;

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_debug(true);
    // Files keep the line end at their end. The builder only fails on delimiters, which are the usual ones here.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        engine.set_syntax(syntax);
    }
    engine
});

/// True when the text has something for the template engine to do.
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The text with its templates filled in.
///
/// # Errors
/// When the template cannot be read, or uses a name that `context` does not have.
pub fn render(text: &str, context: &Context) -> Result<String> {
    try_render(text, context).map_err(|fault| fault.into_error(text))
}

/// As [`render`], with the place of a fault inside the text.
///
/// # Errors
/// As [`render`].
pub fn try_render(text: &str, context: &Context) -> Result<String, Fault> {
    if !is_template(text) {
        return Ok(text.to_owned());
    }
    ENGINE.render_str(text, Value::from(Serde(context))).map_err(|e| {
        let used = try_names(text, true).unwrap_or_default();
        Fault::of(&e, text, used, context)
    })
}

/// What an expression such as `'hybrid' in groups` comes to.
///
/// # Errors
/// When it cannot be read, or uses a name that `context` does not have.
pub fn evaluate(expression: &str, context: &Context) -> Result<bool> {
    try_evaluate(expression, context).map_err(|fault| fault.into_error(expression))
}

/// As [`evaluate`], with the place of a fault inside the text.
///
/// # Errors
/// As [`evaluate`].
pub fn try_evaluate(expression: &str, context: &Context) -> Result<bool, Fault> {
    let compiled = ENGINE.compile_expression(expression).map_err(|e| Fault::of_syntax(&e, expression))?;
    let fault = |e: &minijinja::Error| Fault::of(e, expression, compiled.undeclared_variables(true), context);
    let value = compiled.eval(Value::from(Serde(context))).map_err(|e| fault(&e))?;
    if value.is_undefined() {
        let missing = compiled.undeclared_variables(true);
        return Err(Fault::undefined(expression, missing, context, 0));
    }
    Ok(value.is_true())
}

/// The names that a text's templates use and do not define themselves, for example `inst`, `item`, `kit`.
///
/// # Errors
/// When the template cannot be read.
pub fn names(text: &str) -> Result<BTreeSet<String>> {
    let names = try_names(text, false).map_err(|fault| fault.into_error(text))?;
    Ok(names.into_iter().collect())
}

/// The names that an expression uses.
///
/// # Errors
/// When it cannot be read.
pub fn expression_names(expression: &str) -> Result<BTreeSet<String>> {
    let names = try_expression_names(expression, false).map_err(|fault| fault.into_error(expression))?;
    Ok(names.into_iter().collect())
}

/// The names that a text uses; with `nested`, with what follows them: `kit.version`.
///
/// # Errors
/// When the template cannot be read.
pub fn try_names(text: &str, nested: bool) -> Result<BTreeSet<String>, Fault> {
    if !is_template(text) {
        return Ok(BTreeSet::new());
    }
    let template = ENGINE.template_from_str(text).map_err(|e| Fault::of_syntax(&e, text))?;
    Ok(without_functions(template.undeclared_variables(nested)))
}

/// The names that an expression uses; with `nested`, with what follows them.
///
/// # Errors
/// When the expression cannot be read.
pub fn try_expression_names(expression: &str, nested: bool) -> Result<BTreeSet<String>, Fault> {
    let compiled = ENGINE.compile_expression(expression).map_err(|e| Fault::of_syntax(&e, expression))?;
    Ok(without_functions(compiled.undeclared_variables(nested)))
}

/// The engine counts its own functions (`range`) as undeclared.
fn without_functions(names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let own: BTreeSet<&str> = ENGINE.globals().map(|(name, _)| name).collect();
    names.into_iter().filter(|n| !own.contains(n.as_str())).collect()
}

/// The first of the `used` names (dots included) that the context does not have, apart from those in `late`.
pub fn first_missing<'a>(
    used: impl IntoIterator<Item = &'a String>,
    context: &Context,
    late: &BTreeSet<String>,
) -> Option<(&'a str, Vec<String>)> {
    used.into_iter().find_map(|name| {
        let root = name.split('.').next().unwrap_or(name);
        if late.contains(root) {
            return None;
        }
        fault::missing(name, context).map(|known| (name.as_str(), known))
    })
}

#[cfg(test)]
mod tests;
