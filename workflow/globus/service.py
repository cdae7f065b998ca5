"""Globus's service: who is logged in, and the SDK's executor for an endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import globus_sdk
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import VersionMismatch
from globus_compute_sdk.sdk.auth.globus_app import get_globus_app
from globus_compute_sdk.serialize import ComputeSerializer, JSONData, PureSourceTextInspect
from globus_sdk.gare import GlobusAuthorizationParameters
from globus_sdk.login_flows import LoginFlowManager

from workflow.cluster.executors import LABEL
from workflow.errors import SiteError, one_line
from workflow.globus.endpoint import Endpoint

_BATCH = 64
"""Tasks of one submission; with some 40 kB each they stay below the service's limit of 10 MB."""

LOG_IN = (
    "log in once on this machine: python -c 'import globus_compute_sdk as g; g.Client()', or set "
    "GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET"
)


class NotLoggedIn(Exception):
    """Globus wants a person to log in, and here is none."""


class Unattended(LoginFlowManager):
    """Refuses where the SDK would ask on the terminal: a batch job would wait for ever."""

    @classmethod
    def for_globus_app(cls, *, login_client: globus_sdk.AuthLoginClient, **_: object) -> Unattended:
        return cls(login_client)

    def run_login_flow(self, auth_parameters: GlobusAuthorizationParameters) -> NoReturn:
        raise NotLoggedIn("nobody is logged in to Globus here, or the login has expired")


def make_client() -> Client:
    """A client with the login that is stored on this machine, or with that of GLOBUS_COMPUTE_CLIENT_ID and _SECRET."""
    app = get_globus_app()
    if isinstance(app, globus_sdk.UserApp):
        config = replace(app.config, login_flow_manager=Unattended)
        app = globus_sdk.UserApp(app.app_name, client_id=app.client_id, config=config)
    return Client(app=app, do_version_check=False)


def login_missing() -> bool:
    """Whether nobody is logged in on this machine; the service is asked only where a login has expired.

    Raises what the SDK does where that cannot be told.
    """
    app = make_client().app
    return app is not None and app.login_required()


def connect(endpoint: Endpoint) -> Executor:
    """The SDK's executor for an endpoint that can be used. Raises SiteError.

    Functions travel as source text and data as JSON, so the endpoint's Python may be another one and no answer can hold
    more than plain types. The executor sends together what was submitted while its last request was on the way.
    """
    try:
        client = make_client()
        client.version_check()
        status = client.get_endpoint_status(endpoint.id)
    except Exception as error:
        raise SiteError(f"endpoint {endpoint.id}: {_explained(error)}") from error
    if status.get("status") == "offline":
        remedy = "start it there: globus-compute-endpoint start NAME"
        raise SiteError(f"endpoint {endpoint.id}: is offline\n    -> {remedy}")
    return Executor(
        endpoint.id, client, user_endpoint_config=endpoint.config, batch_size=_BATCH, label=LABEL,
        serializer=ComputeSerializer(strategy_code=PureSourceTextInspect, strategy_data=JSONData),
        result_serializers=[JSONData],
    )  # fmt: skip


def _explained(error: Exception) -> str:
    """What the service's answer means, with the remedy."""
    said = one_line(error, 300)
    status = error.http_status if isinstance(error, globus_sdk.GlobusAPIError) else None
    if isinstance(error, NotLoggedIn):
        return f"{error}\n    -> {LOG_IN}"
    if status == 401 or isinstance(error, globus_sdk.AuthAPIError):
        return f"Globus refuses the login ({said})\n    -> {LOG_IN}"
    if status == 403:
        return f"you may not use it ({said})\n    -> ask its owner, or log in as somebody who may"
    if status == 404:
        return f"there is no such endpoint ({said})\n    -> check the site's endpoint: globus-compute-endpoint list"
    if isinstance(error, VersionMismatch):
        return f"{said}\n    -> pip install --upgrade globus-compute-sdk"
    if status is not None:
        return f"Globus Compute answers with an error ({said})\n    -> read what it says; resume when it is mended"
    return f"Globus Compute cannot be reached ({said})\n    -> check the network, and try again"
