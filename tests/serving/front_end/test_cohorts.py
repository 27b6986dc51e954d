"""Who gets the candidate's answer, over HTTP: real front end, real routes, two model servers that differ by 200."""

import re
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parcel_house import INSTANCE, body, load, manifest, running, shared_house, toy_model

from ninefold.cohorts import Area, Audience, cohort_of
from ninefold.records import entity_key
from ninefold.store import open_store

GOOD = 100 + 20 + 10 * 3 + 7
FAR = GOOD + 200
BASELINE = 10 + 20 + 3
AREA = Area(latitude="distance", longitude="items", south=10, north=30, west=1, east=3)
KEYS = [f"P{number}" for number in range(5000)]


@pytest.fixture(scope="module")
def standing(shared_model, tmp_path_factory):
    """A front end, its live version and a candidate that answers 200 more."""
    with ExitStack() as stack:
        house = stack.enter_context(shared_house(tmp_path_factory.mktemp("cohorts")))
        candidate = stack.enter_context(toy_model())
        house.route(shared_model.url)
        up = stack.enter_context(running(house, NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="2"))
        yield house, up, candidate


@pytest.fixture
def trial(standing, model):
    standing[2].mode("far")
    return standing


def only(document):
    (prediction,) = document["predictions"]
    return prediction


def drawn(up, *instances):
    """The parcels whose answers came from the candidate; each answer is its cohort's."""
    found = set()
    for instance, answer in zip(instances, up.predict(*instances)["predictions"], strict=True):
        assert (answer["version"], answer["prediction"] >= 200) in ((3, False), (4, True))
        assert answer["cohort"] == ("candidate" if answer["version"] == 4 else "live")
        if answer["version"] == 4:
            found.add(instance["parcel"])
    return found


def test_the_cohort_is_exactly_whom_the_rules_draw_and_grows_with_the_share(trial, model):
    house, up, candidate = trial
    before = set()
    for revision, share in enumerate((0.05, 0.2, 0.5, 1.0), start=1):
        rules = house.roll_out(model.url, candidate.url, share=share, rollout="grows", rollout_revision=revision)
        assert up.adopts(house)["share"] == share
        found = drawn(up, *({**INSTANCE, "parcel": key} for key in KEYS))
        assert found == {key for key in KEYS if cohort_of(rules, {}, key) == "candidate"}
        assert before <= found
        observed = up.described()["rollout"]["observed"]
        assert observed == {"live": len(KEYS) - len(found), "candidate": len(found)}
        before = found
    assert before == set(KEYS)


def test_who_asks_alone_is_in_the_cohort_that_a_batch_puts_it_in(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.3, rollout="alone")
    up.adopts(house)
    for key in KEYS[:60]:
        assert only(up.predict({**INSTANCE, "parcel": key}))["cohort"] == cohort_of(rules, {}, key)


@pytest.mark.parametrize(
    ("audience", "changes"),
    [
        (Audience(listed=frozenset({"P3", "P5"}), never=frozenset({"P7"})), {}),
        (Audience(attributes={"zone": frozenset({"south"})}), {}),
        (Audience(attributes={"express": frozenset({True})}, never=frozenset({"P9"})), {}),
        (Audience(unit=("shop",), listed=frozenset({"books"})), {}),
        (Audience(unit=("zone", "express"), attributes={"zone": frozenset({"north"})}), {}),
        # Two numbers stand for a place; who has none is nowhere.
        (Audience(area=AREA), {}),
        (Audience(area=AREA), {"items": None}),
    ],
    ids=["lists", "attribute", "boolean", "unit", "unit of two", "area", "nowhere"],
)  # fmt: skip
def test_lists_attributes_and_geography_draw_as_the_rules_do(trial, model, audience, changes):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.5, audience=audience, rollout="audience")
    up.adopts(house)
    instances = [
        {
            **INSTANCE,
            "parcel": f"P{number}",
            "shop": "books" if number % 3 else "dusty",
            "zone": "north" if number % 2 else "south",
            "express": number % 4 < 2,
            "distance": float(number % 50),
            "items": number % 7,
            **changes,
        }
        for number in range(400)
    ]
    unit = audience.unit or ("parcel",)

    def is_in(instance):
        # As numbers, which is what the front end makes of booleans.
        checked = {name: float(v) if isinstance(v, (bool, int)) else v for name, v in instance.items()}
        return cohort_of(rules, checked, entity_key([checked[name] for name in unit])) == "candidate"

    expected = {instance["parcel"] for instance in instances if is_in(instance)}
    answers = up.predict(*instances)["predictions"]
    found = {i["parcel"] for i, a in zip(instances, answers, strict=True) if a["cohort"] == "candidate"}
    assert found == expected
    assert bool(expected) == (changes == {})


ROWS = st.fixed_dictionaries(
    {
        "parcel": st.integers(0, 300).map(lambda number: f"P{number}"),
        "shop": st.sampled_from(["books", "dusty", "nobody"]),
        "zone": st.sampled_from(["north", "south"]),
        "vehicle": st.sampled_from(["bike", "rocket"]),
        "distance": st.sampled_from([1.0, 20.0, 60.0, 101.0]),
    }
)


def test_a_batch_of_both_cohorts_is_what_its_rows_are_alone(trial, model):
    house, up, candidate = trial
    house.roll_out(model.url, candidate.url, share=0.5, shadow=True, rollout="both")
    up.adopts(house)
    cohorts = set()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(ROWS, min_size=1, max_size=8))
    def hold(rows):
        instances = [{**INSTANCE, **row} for row in rows]
        together = up.predict(*instances)["predictions"]
        alone = [only(up.predict(instance)) for instance in instances]
        for answer in (*together, *alone):
            del answer["prediction_id"]
            cohorts.add(answer["cohort"])
        assert together == alone

    hold()
    assert cohorts == {"live", "candidate"}


def test_more_rows_than_one_batch_takes_keep_their_places_and_cohorts(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.5, rollout="many")
    up.adopts(house)
    rows = [{**INSTANCE, "parcel": key, "distance": 20.0 + n % 80} for n, key in enumerate(KEYS[:500])]
    for n, answer in enumerate(up.predict(*rows)["predictions"]):
        far = cohort_of(rules, {}, KEYS[n]) == "candidate"
        assert answer["prediction"] == GOOD + n % 80 + 200 * far


def test_a_retry_is_the_same_prediction_and_every_record_names_the_rollout(trial, model):
    house, up, candidate = trial
    house.roll_out(model.url, candidate.url, share=0.5, rollout="retried", rollout_revision=7)
    up.adopts(house)
    rows = [{**INSTANCE, "parcel": key} for key in KEYS[:6]]
    first = up.predict(*rows, x_request_id="tried")["predictions"]
    assert first == up.predict(*rows, x_request_id="tried")["predictions"]
    assert {answer["cohort"] for answer in first} == {"live", "candidate"}
    found = kept(house, [answer["prediction_id"] for answer in first])
    assert {(p.rollout_id, p.rollout_revision) for p in found.values()} == {("retried", 7)}
    assert [found[a["prediction_id"]].request_id for a in first] == [f"tried#{place}" for place in range(6)]
    assert [(found[a["prediction_id"]].cohort, found[a["prediction_id"]].value) for a in first] == [
        (answer["cohort"], answer["prediction"]) for answer in first
    ]
    house.route(model.url)
    assert up.adopts(house) is None
    answer = only(up.predict(INSTANCE))
    (found_live,) = kept(house, [answer["prediction_id"]]).values()
    assert (found_live.rollout_id, found_live.rollout_revision, found_live.request_id) == (None, None, None)


def kept(house, ids):
    deadline = time.monotonic() + 20
    store = open_store(house.settings.store_url)
    try:
        while len(found := {i: p for i in ids if (p := store.prediction(i)) is not None}) < len(ids):
            assert time.monotonic() < deadline, f"{len(found)} of {len(ids)} are in the store"
            time.sleep(0.05)
        return found
    finally:
        store.close()


def test_an_explanation_is_of_the_version_of_the_callers_cohort(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.5, rollout="explained")
    up.adopts(house)
    rows = [{**INSTANCE, "parcel": key} for key in KEYS[:6]]
    document = up.client.post("/v1/models/parcels:explain", content=body(*rows)).json()
    cohorts = [cohort_of(rules, {}, key) for key in KEYS[:6]]
    assert set(cohorts) == {"live", "candidate"}
    for cohort, answer, explained in zip(cohorts, document["predictions"], document["explanations"], strict=True):
        far = 200 * (cohort == "candidate")
        assert (answer["cohort"], answer["version"]) == (cohort, 4 if far else 3)
        assert (answer["prediction"], explained["reference"]) == (GOOD + far, 130 + far)


def test_a_candidate_that_fails_falls_back_in_its_cohort_alone(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.5, rollout="fails")
    up.adopts(house)
    candidate.mode("error")
    for key in KEYS[:12]:
        answer = only(up.predict({**INSTANCE, "parcel": key}))
        if cohort_of(rules, {}, key) == "candidate":
            assert (answer["cohort"], answer["version"], answer["fallback"]) == ("candidate", 0, "model_error")
            assert answer["prediction"] == BASELINE
        else:
            assert (answer["cohort"], answer["version"], answer["prediction"]) == ("live", 3, GOOD)


def test_who_is_not_in_the_cohort_does_not_wait_for_a_candidate_that_hangs(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.5, rollout="hangs")
    up.adopts(house)
    candidate.mode("hang")
    with_candidate = next(key for key in KEYS if cohort_of(rules, {}, key) == "candidate")
    without = next(key for key in KEYS if cohort_of(rules, {}, key) == "live")
    answers = []
    headers = dict(up.client.headers)

    def ask():
        content = body({**INSTANCE, "parcel": with_candidate})
        answers.append(httpx.post(f"{up.url}/v1/models/parcels:predict", content=content, headers=headers, timeout=10))

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.1)
    assert only(up.predict({**INSTANCE, "parcel": without}))["prediction"] == GOOD
    assert answers == []
    waiting.join()
    assert only(answers[0].json())["fallback"] == "model_slow"


@pytest.mark.parametrize("fault", ["derive", "key", "damaged", "gone", "address", "audience"])
def test_a_candidate_that_can_not_be_asked_is_named_and_nobody_is_given_to_it(trial, model, fault):
    house, up, candidate = trial
    house.route(model.url)
    up.adopts(house)
    refused = up.metric("ninefold_front_end_candidates_refused_total")
    options = {"share": 1.0, "shadow": True, "rollout": f"no-{fault}"}
    address = candidate.url
    if fault == "derive":
        options["package"], words = house.write_package(manifest(derive_digest="0" * 64)), "another derive"
    elif fault == "key":
        options["package"], words = house.write_package(manifest(key=("town",))), "has the key town"
    elif fault == "damaged":
        options["package"] = house.write_package(manifest(training={"seed": 5}))
        file = Path(options["package"][1]) / "package.json"
        file.write_bytes(file.read_bytes().replace(b'"seed":5', b'"seed":6'))
        words = "SHA-256"
    elif fault == "gone":
        options["package"], words = ("f" * 64, "/nowhere"), "can't be read"
    elif fault == "address":
        address, words = "https://far", "no address"
    else:
        options["audience"], words = Audience(unit=("customer",)), "draws by customer"
    house.roll_out(model.url, address, **options)
    rollout = up.adopts(house)
    assert not rollout["ready"]
    assert words in rollout["problem"]
    assert up.described()["problem"] is None
    answers = up.predict(*({**INSTANCE, "parcel": key} for key in KEYS[:40]), wait="shadow")["predictions"]
    assert {(a["version"], a["cohort"], a["prediction"]) for a in answers} == {(3, "live", GOOD)}
    rollout = up.described()["rollout"]
    assert rollout["observed"] == {"live": 40, "candidate": 0}
    assert rollout["shadowed"] == {"answered": 0, "failed": 0, "dropped": 0, "waiting": 0}
    assert up.metric("ninefold_front_end_candidates_refused_total") > refused
    assert up.metric("ninefold_front_end_rollout_ready{") == 0
    house.roll_out(model.url, candidate.url, share=1.0, rollout=f"no-{fault}", rollout_revision=2)
    assert up.adopts(house)["ready"]
    assert only(up.predict(INSTANCE))["version"] == 4


def test_a_table_that_can_not_be_read_leaves_shares_and_routes_of_one_revision(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.4, rollout="kept", rollout_revision=3)
    up.adopts(house)
    expected = {key for key in KEYS[:300] if cohort_of(rules, {}, key) == "candidate"}
    rows = [{**INSTANCE, "parcel": key} for key in KEYS[:300]]
    good = house.routes.read_bytes()
    for spoilt, words in (
        (b"{", "damaged"),
        (good.replace(b'"share": 0.4', b'"share": 4'), "no share|share of 4"),
        (good.replace(b'"audience"', b'"crowd"'), "cohorts .* are damaged"),
        (good.replace(b'"live": 3', b'"live": 9'), "not among the variants"),
    ):
        house.routes.write_bytes(spoilt)
        deadline = time.monotonic() + 10
        while not (problem := up.described()["problem"]):
            assert time.monotonic() < deadline
            time.sleep(0.03)
        assert re.search(words, problem), problem
        described = up.described()
        assert (described["revision"], described["rollout"]["revision"]) == (house.revision, 3)
        assert drawn(up, *rows) == expected
        house.routes.write_bytes(good)
        while up.described()["problem"]:
            time.sleep(0.03)


def test_shares_and_a_promotion_change_under_load_without_a_failure(trial, model):
    house, up, candidate = trial
    house.route(model.url)
    up.adopts(house)
    with load(up) as seen:
        for revision, share in enumerate((0.0, 0.1, 0.5, 1.0), start=1):
            house.roll_out(
                model.url, candidate.url, share=share, shadow=True, rollout="promoted", rollout_revision=revision
            )
            up.adopts(house)
            time.sleep(0.3)
        house.route(candidate.url, version=4)
        up.adopts(house)
        time.sleep(0.3)
        count = len(seen.answers)
        time.sleep(0.3)
    assert seen.refused == []
    assert {answer["fallback"] for answer in seen.answers} == {None}
    assert all(a["prediction"] == (FAR if a["version"] == 4 else GOOD) for a in seen.answers)
    assert {(a["version"], a["cohort"]) for a in seen.answers[count:]} == {(4, "live")}
    assert {(a["version"], a["cohort"]) for a in seen.answers} == {(3, "live"), (4, "candidate"), (4, "live")}


def test_the_observed_and_the_configured_share_stand_side_by_side_in_prometheus(trial, model):
    house, up, candidate = trial
    rules = house.roll_out(model.url, candidate.url, share=0.25, rollout="shown", rollout_revision=2)
    up.adopts(house)
    up.predict(*({**INSTANCE, "parcel": key} for key in KEYS[:1000]))
    expected = sum(cohort_of(rules, {}, key) == "candidate" for key in KEYS[:1000])
    labels = 'revision="2",rollout="shown",use_case="parcels"}'
    assert up.metric(f"ninefold_front_end_rollout_share{{{labels}") == 0.25
    assert up.metric(f'ninefold_front_end_rollout_predictions{{cohort="candidate",{labels}') == expected
    assert up.metric(f'ninefold_front_end_rollout_predictions{{cohort="live",{labels}') == 1000 - expected
    # A table that is new for another reason goes on counting; a new revision counts from nothing.
    house.roll_out(model.url, candidate.url, share=0.25, rollout="shown", rollout_revision=2)
    assert up.adopts(house)["observed"]["candidate"] == expected
    house.roll_out(model.url, candidate.url, share=0.5, rollout="shown", rollout_revision=3)
    assert up.adopts(house)["observed"] == {"live": 0, "candidate": 0}
