/* Between request.c, request_container.c and request_process.c: the decoding of the larger objects. */
#ifndef HYPER_REQUEST_PARTS_H
#define HYPER_REQUEST_PARTS_H

#include "json.h"
#include "request.h"

void decode_container(struct json *json, struct container_spec *spec);
void decode_renewal(struct json *json, struct renewal_spec *spec);
void decode_process(struct json *json, int object, struct process_spec *spec);
void decode_pairs(struct json *json, int object, const char *key, struct pairs *pairs);
void decode_cgroup(struct json *json, int object, struct pairs *pairs);
/* Instructions in base64, `most` at the most; NULL when there is no `key`. */
uint8_t *decode_instructions(struct json *json, int object, const char *key, int most,
                             size_t *size);
void decode_device_rules(struct json *json, int object, struct device_rules *rules);
char *decode_path(struct json *json, int object, const char *key, int required);
char *decode_machine_id(struct json *json);
char *decode_id(struct json *json, int object, const char *key);

#endif
