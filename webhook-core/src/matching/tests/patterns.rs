use crate::matching::{EventTypeError, EventTypePattern, check_event_type};

fn pattern(text: &str) -> EventTypePattern {
    EventTypePattern::new(text).unwrap()
}

#[test]
fn event_types_are_256_characters_of_a_small_alphabet() {
    for good in ["a", "invoice.paid", "A-Z_0-9.x", ".", "-", "a..b", &"x".repeat(256)] {
        assert_eq!(check_event_type(good), Ok(()), "{good}");
    }
    assert_eq!(check_event_type(""), Err(EventTypeError::Empty));
    assert_eq!(check_event_type(&"x".repeat(257)), Err(EventTypeError::TooLong { length: 257 }));
    for (bad, character) in [("a b", ' '), ("a/b", '/'), ("*", '*'), ("é", 'é'), ("a\n", '\n'), ("a\0", '\0')]
    {
        assert_eq!(check_event_type(bad), Err(EventTypeError::Character { character }), "{bad:?}");
    }
}

#[test]
fn an_exact_pattern_takes_its_name_alone() {
    assert!(pattern("invoice").matches("invoice"));
    for other in ["invoice.paid", "Invoice", "invoic", "invoices"] {
        assert!(!pattern("invoice").matches(other), "{other}");
    }
}

#[test]
fn a_prefix_takes_what_is_below_it_at_any_depth_but_not_itself() {
    let pattern = pattern("invoice.*");
    for below in ["invoice.paid", "invoice.line.added", "invoice."] {
        assert!(pattern.matches(below), "{below}");
    }
    for other in ["invoice", "invoices.paid", "my.invoice.paid", "invoice-paid"] {
        assert!(!pattern.matches(other), "{other}");
    }
}

#[test]
fn a_star_takes_everything() {
    assert!(pattern("*").matches("anything.at.all"));
}

#[test]
fn a_star_elsewhere_is_refused() {
    for bad in ["inv*", "*.paid", "a.*.b", "**", "a.**", ".*", "a.*.*", "*."] {
        assert_eq!(EventTypePattern::new(bad), Err(EventTypeError::Wildcard), "{bad}");
    }
    assert_eq!(EventTypePattern::new(""), Err(EventTypeError::Empty));
    assert_eq!(EventTypePattern::new("a b.*"), Err(EventTypeError::Character { character: ' ' }));
}

#[test]
fn a_pattern_has_at_most_256_characters_its_star_included() {
    assert!(EventTypePattern::new("x".repeat(254) + ".*").is_ok());
    assert_eq!(EventTypePattern::new("x".repeat(255) + ".*"), Err(EventTypeError::TooLong { length: 257 }));
}

#[test]
fn a_pattern_is_text_in_json() {
    let patterns: Vec<EventTypePattern> = serde_json::from_str(r#"["invoice.*","*","a"]"#).unwrap();
    assert_eq!(serde_json::to_string(&patterns).unwrap(), r#"["invoice.*","*","a"]"#);
    let refused = serde_json::from_str::<EventTypePattern>(r#""inv*""#).unwrap_err().to_string();
    assert!(refused.contains("`invoice.*`"), "{refused}");
}
