"""A client with requests that waits as long as it is told, and no longer than it wants to.

    pip install requests
    python3 with_requests.py http://127.0.0.1:10000/ demo 3     calls three times
"""

import sys
import time

import requests

PATIENCE = 60  # the longest wait in seconds; after that the error is the caller's to handle
ATTEMPTS = 5


def get(url, key):
    for attempt in range(ATTEMPTS):
        response = requests.get(url, headers={"authorization": f"Bearer {key}"}, timeout=30)
        wait = int(response.headers.get("retry-after", 0))
        # A 429 without retry-after would never pass, whenever it is sent again.
        if response.status_code != 429 or not 0 < wait <= PATIENCE or attempt == ATTEMPTS - 1:
            response.raise_for_status()
            return response
        print(f"denied, waiting {wait} s: {response.json()['error']['message']}")
        time.sleep(wait)


if __name__ == "__main__":
    url, key, times = sys.argv[1:]
    for _ in range(int(times)):
        try:
            print(get(url, key).status_code)
        except requests.HTTPError as error:
            sys.exit(f"{error.response.status_code}: {error.response.json()['error']['message']}")
