"""One AWS call with botocore: SERVICE CALL JSON [ACCOUNT]. The environment alone says where AWS is.

With an account it is that account's owner who calls, at the emulator's own port: the sandbox's front knows one account.
"""

import json
import os
import ssl
import sys
import urllib.request

import botocore.session

service, call, params = sys.argv[1:4]
options = {}
if len(sys.argv) > 4:
    trust = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
    page = urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/_sandbox/status", context=trust)
    options = {
        "endpoint_url": "http://" + json.load(page)["emulator"],
        "aws_access_key_id": sys.argv[4],
        "aws_secret_access_key": "of-another-account",
    }
client = botocore.session.get_session().create_client(service, **options)
answer = getattr(client, call)(**json.loads(params))
print(json.dumps(answer, default=str))
