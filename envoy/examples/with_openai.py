"""A client with OpenAI's SDK. It waits by itself where it is told a short wait; what is left to do is to handle the long ones.

    pip install openai
    python3 with_openai.py http://127.0.0.1:10000/v1 demo 3     asks three times
"""

import datetime
import sys

import openai

if __name__ == "__main__":
    url, key, times = sys.argv[1:]
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=2)
    for _ in range(int(times)):
        try:
            completion = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
            print(completion.choices[0].message.content)
        except openai.RateLimitError as error:
            # Denied three times, or told not to try again: the wait is over a minute.
            wait = datetime.timedelta(seconds=int(error.response.headers["retry-after"]))
            sys.exit(f"{error.message} That is {wait}.")
