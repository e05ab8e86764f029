/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl config cat: the settings that are in force, as a file would say them, and where each is from. What the
 * files say now is another question: overlapd --check-config.
 */

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/ctl/question.h"

const char config_help[] = "Usage: overlapctl config cat\n"
                           "\n"
                           "The settings that are in force, and for each the file and line it is from, or what else\n"
                           "says it. What files say now, and whether it is right: overlapd --check-config\n";

#define CONFIG_LINE_WIDTH 48

static void config_take(const Overlapd__AdminReply *reply, void *data) {
        const Overlapd__AdminSetting *setting = reply->setting;
        char line[512], place[320];
        struct json_object *array = data, *object;

        if (reply->what_case != OVERLAPD__ADMIN_REPLY__WHAT_SETTING)
                return;
        if (!array) {
                snprintf(line, sizeof(line), "%s=%s", setting->name, setting->value);
                output_clean(line, line, sizeof(line));
                printf("%-*s # %s\n", CONFIG_LINE_WIDTH, line,
                       setting->place[0] != '\0' ? output_clean(setting->place, place, sizeof(place)) : "default");
                return;
        }
        object = output_json_object();
        output_json_string(object, "name", setting->name);
        output_json_string(object, "value", setting->value);
        output_json_string(object, "from", setting->place[0] != '\0' ? setting->place : "default");
        output_json_append(array, object);
}

int config_main(const struct ctl *ctl, int argc, char *argv[]) {
        Overlapd__AdminRequest request = OVERLAPD__ADMIN_REQUEST__INIT;
        Overlapd__AdminConfig question = OVERLAPD__ADMIN_CONFIG__INIT;
        struct json_object *array = ctl->is_json ? output_json_array() : NULL, *document;
        int status;

        if (argc != 2 || strcmp(argv[1], "cat") != 0)
                return ctl_complain_usage("config", argc < 2 ? "config: what? There is: cat"
                                                             : "config: the only thing to do is: cat");
        request.what_case = OVERLAPD__ADMIN_REQUEST__WHAT_CONFIG;
        request.config = &question;
        if (!ctl->is_json)
                puts("[Daemon]");
        status = question_ask_once(ctl, &request, config_take, array);
        if (!array)
                return status;
        document = output_json_object();
        output_json_add(document, "settings", array);
        output_json_print(document);
        return status;
}
