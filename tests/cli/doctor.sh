# doctor passes here, in words and in JSON.
strata doctor >words || { cat words; exit 1; }
grep -q '^version' words && grep -q '^instruction set' words && grep -q ' 0 failed$' words && echo ok
strata doctor --json | grep -c '"result": "failed"' || true
