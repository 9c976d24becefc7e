//! Signing and verifying against each other, against the reference library and against published examples.

use proptest::prelude::*;
use proptest::sample::Index;
use standardwebhooks::Webhook;

use super::*;
use crate::secret::{PREFIX, Secret};

const NOW: i64 = 1_700_000_000;
const ID: &str = "0190a7f0-5a2b-7c3d-8e4f-0123456789ab";

fn secret(text: &str) -> Secret {
    Secret::from_stored(text.to_owned())
}

/// Headers as a request carries them: looked up without regard to case.
#[derive(Debug, Clone, Default)]
struct Request(Vec<(String, Vec<u8>)>);

impl Request {
    fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.0.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    fn signed(scheme: SignatureScheme, secrets: &[Secret], at: i64, body: &[u8]) -> Self {
        let signature = sign(scheme, secrets, ID, at, body).unwrap();
        Self::default()
            .with(WEBHOOK_ID, ID)
            .with(WEBHOOK_TIMESTAMP, at.to_string())
            .with(signature.name, signature.value)
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    fn verify(&self, scheme: VerifyScheme, secrets: &[Secret], body: &[u8]) -> Result<Verified, VerifyError> {
        verify(scheme, secrets, None, |name| self.get(name), NOW, body)
    }
}

#[test]
fn names_are_the_same_in_serde_display_and_from_str() {
    for scheme in SignatureScheme::ALL {
        assert_eq!(serde_json::to_value(scheme).unwrap(), scheme.as_str());
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
    }
    for scheme in VerifyScheme::ALL {
        assert_eq!(serde_json::to_value(scheme).unwrap(), scheme.as_str());
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
    }
    assert_eq!(SignatureScheme::default(), SignatureScheme::Standard);
    assert_eq!(
        "Standard".parse::<SignatureScheme>().map_err(|error| error.to_string()).unwrap_err(),
        "unknown scheme: expected one of standard, github, stripe, none"
    );
}

/// The vectors of the reference libraries: the one of JavaScript, Go, Python, Ruby, PHP, C# and Java, and
/// that of Rust.
#[test]
fn standard_signs_as_the_reference_libraries() {
    for (key, id, at, body, expected) in [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ] {
        let header = sign(SignatureScheme::Standard, &[secret(key)], id, at, body.as_bytes()).unwrap();
        assert_eq!((header.name, header.value.as_str()), ("webhook-signature", expected));
    }
}

/// The example of "Validating webhook deliveries" in GitHub's documentation.
#[test]
fn github_signs_as_documented() {
    let header =
        sign(SignatureScheme::Github, &[secret("It's a Secret to Everybody")], ID, NOW, b"Hello, World!");
    let header = header.unwrap();
    assert_eq!(header.name, "x-hub-signature-256");
    assert_eq!(header.value, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
}

/// Expected values made with Python's `hmac`.
#[test]
fn stripe_signs_the_timestamp_and_the_body() {
    let body = br#"{"id":"evt_1","object":"event"}"#;
    let header =
        sign(SignatureScheme::Stripe, &[secret("whsec_test_secret")], ID, 1_492_774_577, body).unwrap();
    assert_eq!(header.name, "stripe-signature");
    assert_eq!(
        header.value,
        "t=1492774577,v1=654b43d3508ecadb3f8cefc4bc7d3d2bdc5ba9e03bf2c89b2d0657a8e24e4543"
    );
}

/// Expected values made with Python's `hmac`.
#[test]
fn a_key_longer_than_a_block_is_hashed_first() {
    let long = secret("clé plus longue que soixante-quatre octets: ééééééééééééééééééééé");
    let header = sign(SignatureScheme::Github, &[long], ID, NOW, b"hello").unwrap();
    assert_eq!(header.value, "sha256=1c3939a0b773e28b35add5d09b5cfc83847395e235631cf03f293023bd5762c0");
}

#[test]
fn none_and_a_missing_secret_give_no_header() {
    assert_eq!(sign(SignatureScheme::None, &[Secret::generate()], ID, NOW, b""), None);
    for scheme in SignatureScheme::ALL {
        assert_eq!(sign(scheme, &[], ID, NOW, b""), None);
    }
}

#[test]
fn during_rotation_standard_signs_with_every_secret_and_the_others_with_the_newest() {
    let [newest, oldest] = [Secret::generate(), Secret::generate()];
    let both = [newest.clone(), oldest.clone()];
    let alone =
        |scheme, secret: &Secret| sign(scheme, std::slice::from_ref(secret), ID, NOW, b"{}").unwrap().value;

    let standard = sign(SignatureScheme::Standard, &both, ID, NOW, b"{}").unwrap().value;
    let expected =
        [alone(SignatureScheme::Standard, &newest), alone(SignatureScheme::Standard, &oldest)].join(" ");
    assert_eq!(standard, expected);
    for scheme in [SignatureScheme::Github, SignatureScheme::Stripe] {
        assert_eq!(sign(scheme, &both, ID, NOW, b"{}").unwrap().value, alone(scheme, &newest));
    }
}

#[test]
fn a_signer_signs_every_attempt_alike_and_shows_no_key() {
    let secrets = [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    for scheme in SignatureScheme::ALL {
        let signer = Signer::new(scheme, &secrets);
        for at in [NOW, NOW + 5, -1] {
            assert_eq!(signer.sign(ID, at, b"[1]"), sign(scheme, &secrets, ID, at, b"[1]"));
        }
    }
    let shown = format!("{:?}", Signer::new(SignatureScheme::Standard, &secrets));
    assert_eq!(shown, "Signer { scheme: Standard, keys: 1 }");
}

#[test]
fn the_reference_library_accepts_what_is_signed_here_under_either_secret() {
    let now = jiff::Timestamp::now().as_second();
    let secrets = [Secret::generate(), Secret::generate()];
    let body = br#"{"n":1.0,"text":"\u00e9"}"#;
    let header = sign(SignatureScheme::Standard, &secrets, ID, now, body).unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("webhook-id", ID.parse().unwrap());
    headers.insert("webhook-timestamp", now.to_string().parse().unwrap());
    headers.insert("webhook-signature", header.value.parse().unwrap());
    for secret in &secrets {
        Webhook::new(secret.expose()).unwrap().verify(body, &headers).unwrap();
    }
    let stranger = Secret::generate();
    assert!(Webhook::new(stranger.expose()).unwrap().verify(body, &headers).is_err());
}

#[test]
fn what_the_reference_library_signs_is_accepted_here() {
    let secret = Secret::generate();
    let signature = Webhook::new(secret.expose()).unwrap().sign("msg_1", NOW, b"{}").unwrap();
    let request = Request::default()
        .with(WEBHOOK_ID, "msg_1")
        .with(WEBHOOK_TIMESTAMP, NOW.to_string())
        .with(WEBHOOK_SIGNATURE, signature);
    let verified = request.verify(VerifyScheme::Standard, &[Secret::generate(), secret], b"{}").unwrap();
    assert_eq!(verified.message_id.as_deref(), Some("msg_1"));
}

#[test]
fn standard_tolerates_five_minutes_either_way_and_not_a_second_more() {
    let secrets = [Secret::generate()];
    for (offset, expected) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
        let result = Request::signed(SignatureScheme::Standard, &secrets, NOW + offset, b"{}").verify(
            VerifyScheme::Standard,
            &secrets,
            b"{}",
        );
        assert_eq!(result.err(), (!expected).then_some(VerifyError::TimestampOutOfTolerance), "{offset} s");
    }
    let far = Request::signed(SignatureScheme::Standard, &secrets, i64::MAX, b"{}");
    let result = verify(VerifyScheme::Standard, &secrets, None, |name| far.get(name), i64::MIN, b"{}");
    assert_eq!(result, Err(VerifyError::TimestampOutOfTolerance));
}

#[test]
fn standard_finds_the_good_signature_among_others_and_ignores_unknown_versions() {
    let secrets = [Secret::generate()];
    let request = Request::signed(SignatureScheme::Standard, &secrets, NOW, b"{}");
    let good = String::from_utf8(request.get(WEBHOOK_SIGNATURE).unwrap().to_vec()).unwrap();
    let wrong = "v1,tFtCZ5RDCPxzWQRWXWPgrCgE2frDBe9gjpbWQxnVfsQ=";
    let wrong_version = good.replace("v1,", "v2,");
    let result = |value: &str| {
        request.clone().with(WEBHOOK_SIGNATURE, value).verify(VerifyScheme::Standard, &secrets, b"{}")
    };
    assert!(result(&format!("{wrong}  v1a,AAAA v1, v1,short {good} {wrong}")).is_ok());
    assert_eq!(result(wrong), Err(VerifyError::WrongSignature));
    for useless in ["", "v1,", &wrong_version, good.trim_end_matches('='), good.trim_start_matches("v1,")] {
        let error = result(useless).unwrap_err();
        assert!(
            matches!(&error, VerifyError::MalformedHeader { name, .. } if name == WEBHOOK_SIGNATURE),
            "{useless}"
        );
    }
}

#[test]
fn standard_refuses_missing_and_malformed_headers_by_name() {
    let secrets = [Secret::generate()];
    let request = Request::signed(SignatureScheme::Standard, &secrets, NOW, b"{}");
    for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
        let error =
            request.clone().without(name).verify(VerifyScheme::Standard, &secrets, b"{}").unwrap_err();
        assert_eq!(error, VerifyError::MissingHeader { name: name.to_owned() });
    }
    for (name, value) in [
        (WEBHOOK_ID, &b""[..]),
        (WEBHOOK_ID, b"msg 1"),
        (WEBHOOK_ID, b"msg\xff"),
        (WEBHOOK_TIMESTAMP, b""),
        (WEBHOOK_TIMESTAMP, b"+1700000000"),
        (WEBHOOK_TIMESTAMP, b"-1"),
        (WEBHOOK_TIMESTAMP, b"1700000000.0"),
        (WEBHOOK_TIMESTAMP, b"99999999999999999999"),
    ] {
        let error =
            request.clone().with(name, value).verify(VerifyScheme::Standard, &secrets, b"{}").unwrap_err();
        assert!(
            matches!(error, VerifyError::MalformedHeader { name: found, .. } if found == name),
            "{value:?}"
        );
    }
}

#[test]
fn standard_cannot_be_cut_into_another_id_and_body() {
    let secrets = [Secret::generate()];
    let old = NOW - 3_600;
    let body = format!("{NOW}.5");
    let signed = Request::signed(SignatureScheme::Standard, &secrets, old, body.as_bytes());
    // The same signed bytes, read as id `<id>.<old>`, timestamp `<now>` and body `5`.
    let forged = signed.with(WEBHOOK_ID, format!("{ID}.{old}")).with(WEBHOOK_TIMESTAMP, NOW.to_string());
    let error = forged.verify(VerifyScheme::Standard, &secrets, b"5").unwrap_err();
    assert!(matches!(error, VerifyError::MalformedHeader { name, .. } if name == WEBHOOK_ID));
}

#[test]
fn github_and_hex_read_the_forms_that_senders_write() {
    // `echo -n hello | openssl dgst -sha256 -hmac topsecret`
    let digits = "ed76fd36523b8becda5a3b36d0e3737e8ae5111f55e26c7c3a455a3ce29636d2";
    let secrets = [secret("topsecret")];
    let with = |header, value: &str| Request::default().with(header, value);
    let prefixed = format!("sha256={digits}");
    let upper = digits.to_uppercase();
    for (scheme, value, expected) in [
        (VerifyScheme::Github, prefixed.as_str(), true),
        (VerifyScheme::Github, digits, false),
        (VerifyScheme::Hex, &prefixed, true),
        (VerifyScheme::Hex, digits, true),
        (VerifyScheme::Hex, &upper, true),
        (VerifyScheme::Hex, &format!(" {digits}\t"), true),
        (VerifyScheme::Hex, &digits[2..], false),
        (VerifyScheme::Hex, &format!("{digits}00"), false),
        (VerifyScheme::Hex, &format!("sha1={digits}"), false),
        (VerifyScheme::Hex, "", false),
    ] {
        let result = with(scheme.default_header(), value).verify(scheme, &secrets, b"hello");
        if expected {
            assert_eq!(result, Ok(Verified { message_id: None }), "{scheme} {value}");
        } else {
            assert!(
                matches!(result, Err(VerifyError::MalformedHeader { .. })),
                "{scheme} {value}: {result:?}"
            );
        }
        let request = with("X-Partner-Signature", value);
        let renamed =
            verify(scheme, &secrets, Some("X-Partner-Signature"), |name| request.get(name), NOW, b"hello");
        assert_eq!(renamed.is_ok(), expected);
        let missing = verify(scheme, &secrets, Some("X-Other"), |name| request.get(name), NOW, b"hello");
        assert_eq!(missing, Err(VerifyError::MissingHeader { name: "X-Other".to_owned() }));
    }
}

#[test]
fn github_and_hex_use_the_characters_of_a_whsec_secret() {
    let secrets = [Secret::generate()];
    let request = Request::signed(SignatureScheme::Github, &secrets, NOW, b"{}");
    assert!(request.verify(VerifyScheme::Github, &secrets, b"{}").is_ok());
    let renamed = verify(
        VerifyScheme::Hex,
        &secrets,
        Some("x-hub-signature-256"),
        |name| request.get(name),
        NOW,
        b"{}",
    );
    assert!(renamed.is_ok());
}

#[test]
fn nothing_is_verified_without_a_secret() {
    let secrets = [Secret::generate()];
    for (sign_as, scheme) in
        [(SignatureScheme::Standard, VerifyScheme::Standard), (SignatureScheme::Github, VerifyScheme::Github)]
    {
        let request = Request::signed(sign_as, &secrets, NOW, b"{}");
        assert_eq!(request.verify(scheme, &[], b"{}"), Err(VerifyError::WrongSignature));
        assert_eq!(request.verify(scheme, &[Secret::generate()], b"{}"), Err(VerifyError::WrongSignature));
    }
}

fn flip(bytes: &mut [u8], bit: &Index) {
    let bit = bit.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

proptest! {
    #[test]
    fn what_is_signed_verifies(body: Vec<u8>, text in "(whsec_)?[ -~é]{1,80}", offset in -300_i64..=300) {
        let secrets = [secret(&text), Secret::generate()];
        let standard = Request::signed(SignatureScheme::Standard, &secrets, NOW + offset, &body);
        for known in &secrets {
            let verified = standard.verify(VerifyScheme::Standard, std::slice::from_ref(known), &body);
            prop_assert_eq!(verified.map(|verified| verified.message_id), Ok(Some(ID.to_owned())));
        }
        let github = Request::signed(SignatureScheme::Github, &secrets, NOW, &body);
        prop_assert!(github.verify(VerifyScheme::Github, &secrets, &body).is_ok());
    }

    #[test]
    fn one_flipped_bit_anywhere_fails(
        body in prop::collection::vec(any::<u8>(), 1..200),
        bit: Index,
        part in 0..4_usize,
    ) {
        let secrets = [Secret::generate()];
        let mut request = Request::signed(SignatureScheme::Standard, &secrets, NOW, &body);
        let mut received = body.clone();
        match part {
            0 => flip(&mut received, &bit),
            part => flip(&mut request.0[part - 1].1, &bit),
        }
        prop_assert!(request.verify(VerifyScheme::Standard, &secrets, &received).is_err());
    }

    #[test]
    fn one_flipped_bit_of_body_or_tag_fails_in_hex(
        body in prop::collection::vec(any::<u8>(), 1..200),
        bit: Index,
        in_body: bool,
    ) {
        let key = Secret::generate();
        let mut made = tag(&keyed(key.expose().as_bytes()), &[&body]);
        let mut received = body.clone();
        flip(if in_body { &mut received } else { &mut made }, &bit);
        let request = Request::default().with("x-signature", hex::encode(made));
        prop_assert_eq!(request.verify(VerifyScheme::Hex, &[key], &received), Err(VerifyError::WrongSignature));
    }

    #[test]
    fn another_secret_fails(body: Vec<u8>, text in "[a-z]{16,40}") {
        let request = Request::signed(SignatureScheme::Standard, &[secret(&text)], NOW, &body);
        let others = [secret(&format!("{text}x")), secret(&format!("{PREFIX}{text}"))];
        prop_assert_eq!(
            request.verify(VerifyScheme::Standard, &others, &body),
            Err(VerifyError::WrongSignature)
        );
    }
}
