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

struct config {
        struct json_object *array; /* NULL: for a person */
        bool is_quiet;
        char section[96]; /* the latest */
};

static void config_print(struct config *config, const Overlapd__AdminSetting *setting) {
        char line[512], place[320];

        if (strcmp(config->section, setting->section) != 0) {
                if (config->section[0] != '\0')
                        puts("");
                printf("[%s]\n", output_clean(setting->section, config->section, sizeof(config->section)));
        }
        snprintf(line, sizeof(line), "%s=%s", setting->name, setting->value);
        output_clean(line, line, sizeof(line));
        printf("%-*s # %s\n", CONFIG_LINE_WIDTH, line,
               setting->place[0] != '\0' ? output_clean(setting->place, place, sizeof(place)) : "default");
}

static void config_take(const Overlapd__AdminReply *reply, void *data) {
        const Overlapd__AdminSetting *setting = reply->setting;
        struct config *config = data;
        struct json_object *object;

        if (reply->what_case != OVERLAPD__ADMIN_REPLY__WHAT_SETTING || config->is_quiet)
                return;
        if (!config->array) {
                config_print(config, setting);
                return;
        }
        object = output_json_object();
        output_json_string(object, "section", setting->section);
        output_json_string(object, "name", setting->name);
        output_json_string(object, "value", setting->value);
        output_json_string(object, "from", setting->place[0] != '\0' ? setting->place : "default");
        output_json_append(config->array, object);
}

int config_main(const struct ctl *ctl, int argc, char *argv[]) {
        Overlapd__AdminRequest request = OVERLAPD__ADMIN_REQUEST__INIT;
        Overlapd__AdminConfig question = OVERLAPD__ADMIN_CONFIG__INIT;
        struct config config = { .is_quiet = ctl->is_quiet };
        struct json_object *document;
        int status;

        if (argc != 2 || strcmp(argv[1], "cat") != 0)
                return ctl_complain_usage("config", argc < 2 ? "config: what? There is: cat"
                                                             : "config: the only thing to do is: cat");
        request.what_case = OVERLAPD__ADMIN_REQUEST__WHAT_CONFIG;
        request.config = &question;
        if (ctl->is_json && !ctl->is_quiet)
                config.array = output_json_array();
        status = question_ask_once(ctl, &request, config_take, &config);
        if (!config.array)
                return status;
        document = output_json_object();
        output_json_add(document, "settings", config.array);
        output_json_print(document);
        return status;
}
