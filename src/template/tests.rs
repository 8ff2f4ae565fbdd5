use super::*;
use proptest::prelude::*;
use serde_json::json;

fn context() -> Context {
    BTreeMap::from([
        ("inst".to_owned(), json!("LARMOR")),
        ("groups".to_owned(), json!(["ts2", "hybrid"])),
        ("kit".to_owned(), json!({"version": "7.2.1", "components": ["EPICS"]})),
    ])
}

#[test]
fn text_is_filled_in_and_plain_text_stays() -> Result<()> {
    assert_eq!(render("IN:{{ inst }}:DAE", &context())?, "IN:LARMOR:DAE");
    assert_eq!(render("{{ kit.version }}\n", &context())?, "7.2.1\n");
    assert_eq!(render("100%{x}", &context())?, "100%{x}");
    assert_eq!(render("{{ galil | default('new') }}", &context())?, "new");
    Ok(())
}

#[test]
fn expressions_come_to_true_or_false() -> Result<()> {
    assert!(evaluate("'hybrid' in groups and inst != 'LOQ'", &context())?);
    assert!(!evaluate("'muons' in groups", &context())?);
    assert!(!evaluate("galil is defined", &context())?);
    Ok(())
}

#[test]
fn an_undefined_name_is_named_with_its_place_and_the_nearest() {
    let fault = try_render("IN:{{ ints }}", &context()).unwrap_err();
    assert_eq!(fault.message, "`ints` is not defined");
    assert_eq!(fault.offset, 6);
    assert_eq!(fault.next, "did you mean `inst`?");

    let fault = try_render("a\n{{ kit.verson }}", &context()).unwrap_err();
    assert_eq!((fault.message.as_str(), fault.offset), ("`kit.verson` is not defined", 5));
    assert_eq!(fault.next, "did you mean `version`?");

    let error = evaluate("gruops == 1", &context()).unwrap_err();
    assert_eq!(error.details().next.as_deref(), Some("did you mean `groups`?"));
    assert!(evaluate("kit.verson", &context()).is_err());
}

#[test]
fn a_template_that_cannot_be_read_says_where() {
    let fault = try_render("x {{ inst", &context()).unwrap_err();
    assert!(fault.message.starts_with("the template cannot be read"), "{}", fault.message);
    let fault = try_evaluate("inst ==", &context()).unwrap_err();
    assert!(fault.message.starts_with("the template cannot be read"), "{}", fault.message);
}

#[test]
fn names_are_those_that_come_from_outside() -> Result<()> {
    let found = names("{% for x in groups %}{{ x }}{{ item.path }}{% endfor %}{{ range(2) }}")?;
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["groups", "item"]);
    assert_eq!(expression_names("facts.dae == 'DAE3'")?.into_iter().collect::<Vec<_>>(), ["facts"]);
    Ok(())
}

proptest! {
    /// Text without marks is never changed, whatever it holds.
    #[test]
    fn plain_text_passes_unchanged(text in "[^{]{0,60}") {
        prop_assert_eq!(render(&text, &context()).ok(), Some(text));
    }

    /// Filling in never panics, and a fault's offset is a place inside the text.
    #[test]
    fn faults_point_into_the_text(text in "[a-z{}%# .é\n|'(]{0,30}") {
        if let Err(fault) = try_render(&text, &context()) {
            prop_assert!(text.is_char_boundary(fault.offset), "{}", fault.offset);
        }
    }

    /// A name written into a template is found by `names`, and is undefined unless the context has it.
    #[test]
    fn every_name_is_seen(name in "v[a-z_]{1,8}", before in "[a-z:\\\\ ]{0,10}") {
        let text = format!("{before}{{{{ {name} }}}}");
        prop_assert!(names(&text).is_ok_and(|n| n.contains(&name)));
        let fault = try_render(&text, &context()).unwrap_err();
        prop_assert_eq!(fault.offset, before.len() + 3);
    }
}
